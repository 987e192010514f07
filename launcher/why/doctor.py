"""A checkup of a machine or a cluster: what works, what is missing and the command that fixes it, and the next command. Pure.

The findings themselves are in ``machine`` and ``namespace``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Finding:
    """One check. ``state`` is ``ok``, ``missing`` or ``unknown``; ``command`` fixes it, or shows more.

    ``is_needed``: runs need it.
    """

    what: str
    state: str
    detail: str
    command: str | None = None
    is_needed: bool = True

    @property
    def is_wrong(self) -> bool:
        return self.is_needed and self.state == "missing"

    @property
    def mark(self) -> str:
        """The state in one word; ``absent`` for something missing that is not required."""
        return self.state if self.is_needed or self.state != "missing" else "absent"


@dataclass(frozen=True)
class Checkup:
    """All findings about a machine or a cluster. ``then``: the next command if nothing required is missing."""

    findings: tuple[Finding, ...]
    then: str

    @property
    def is_ready(self) -> bool:
        """Whether nothing required is missing; unknown counts as present."""
        return not any(finding.is_wrong for finding in self.findings)

    @property
    def code(self) -> int:
        """The exit code of `launcher doctor`."""
        return 0 if self.is_ready else 1

    @property
    def sentence(self) -> str:
        wrong = sum(finding.is_wrong for finding in self.findings)
        return "ready to train" if self.is_ready else f"{wrong} problem{'s' * (wrong > 1)}"

    @property
    def next(self) -> str:
        """The next command: fixes the first missing requirement, else ``then``."""
        wrong = next((finding for finding in self.findings if finding.is_wrong), None)
        return self.then if wrong is None else wrong.command or wrong.detail

    def json(self) -> dict[str, Any]:
        return {"ready": self.is_ready, "next": self.next, "findings": [asdict(finding) for finding in self.findings]}


@dataclass(frozen=True)
class Work:
    """What a folder has to train: ``experiments``, keys in the order of the files. ``are_broken``: a file is no valid YAML;
    ``is_demo_done``: the demo has run in this folder.
    """

    experiments: tuple[str, ...] = ()
    are_broken: bool = False
    is_demo_done: bool = False


_INIT: Final = "launcher init"
_DEMO: Final = "launcher demo"
DEMO: Final = "demo"  # the key of the experiment that `launcher demo` writes


def then_here(work: Work, *, has_packages: bool) -> str:
    """The next command on a machine that can train. ``has_packages``: it can train without a container, like the demo."""
    own = [key for key in work.experiments if key != DEMO]
    if own or work.are_broken:
        return f"launcher check {own[0]}" if len(own) == 1 and not work.are_broken else "launcher check"
    return _DEMO if has_packages and not work.is_demo_done else _INIT


def then_there(work: Work) -> str:
    """The next command if the cluster can train."""
    own = [key for key in work.experiments if key != DEMO] or [*work.experiments]
    if not own or work.are_broken:
        return "launcher check" if work.are_broken else _INIT
    return f"launcher submit {own[0]}" if len(own) == 1 else "launcher submit EXP"
