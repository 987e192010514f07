"""The errors of launcher and trainer, each with its exit code.

LauncherError            1    anything without a better name below
├── UsageError           2    the command line
├── ExperimentError     42    the experiment file
├── DataError           43    rows, prompts, pairs
├── CredentialError     44    a credential is missing or refused
├── MemoryShortage      45    out of memory on the device
├── HealthError         46    a health rule, or a loss that is NaN
├── UploadError         47    trained, but not uploaded
├── UnreachableError    48    a hub, proxy, store or cluster cannot be reached just now (refused, timeout, 429, 5xx)
├── StorageError         1    an object store holds other bytes than expected, or refuses a request for another reason
├── Aborted            130    a second Ctrl-C
└── Stopped            143    stopped on request, after a checkpoint
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .redact import REDACTOR


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, in a form that an editor can jump to.

    ``where`` is ``file:line:column`` (counted from 1), or a name where there is no file. ``source`` is the line of the file with
    ``column`` and ``width`` of the marked value, or None.
    """

    where: str
    what: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    source: str | None = None
    column: int = 1
    width: int = 1

    def __str__(self) -> str:
        return self.text()

    def text(self, also: Sequence[str] = ()) -> str:
        """The mistake in lines; ``also``: further places that have the same one."""
        lines = [f"{self.where}: {self.what}"]
        if self.source is not None:
            # A tab is as wide as the terminal makes it: repeat it, so that the caret stays below its value.
            indent = "".join("\t" if c == "\t" else " " for c in self.source[: self.column - 1])
            lines += [f"    | {self.source}", f"    | {indent}{'^' * max(1, self.width)}"]
        for name, value in (("expected", self.expected), ("found", self.found), ("hint", self.hint)):
            if value is not None:
                lines.append(f"    {name + ':':<10}{value}")
        if also:
            more = f" … ({len(also) + 1} times in all)" if len(also) > 2 else ""
            lines.append(f"    also at:  {', '.join(also[:2])}{more}")
        return "\n".join(lines)


class LauncherError(Exception):
    """Ends the command with ``exit_code``; its text is shown to the user, without secrets that an SDK put into it."""

    exit_code = 1

    def __str__(self) -> str:
        return REDACTOR.text(super().__str__())

    @property
    def texts(self) -> tuple[str, ...]:
        """What is wrong, each thing by itself."""
        return (str(self),)


class UsageError(LauncherError):
    exit_code = 2


class _WithMistakes(LauncherError):
    """One or more mistakes, all reported at once; one that repeats at other places is printed once, with the first three."""

    shown = 20

    def __init__(self, mistakes: Mistake | Iterable[Mistake]):
        self.mistakes = (mistakes,) if isinstance(mistakes, Mistake) else tuple(mistakes)
        assert self.mistakes, "an error needs at least one mistake"
        super().__init__(*self.mistakes)

    def __str__(self) -> str:
        return "\n".join(self.texts)

    @property
    def texts(self) -> tuple[str, ...]:
        same: dict[tuple[str | None, ...], list[Mistake]] = {}
        for mistake in self.mistakes:
            same.setdefault((mistake.what, mistake.expected, mistake.hint), []).append(mistake)
        groups = list(same.values())
        lines = [first.text([mistake.where for mistake in others]) for first, *others in groups[: self.shown]]
        left = sum(map(len, groups[self.shown :]))
        if left:
            lines[-1] += f"\n… and {left} more"
        return tuple(map(REDACTOR.text, lines))


class ExperimentError(_WithMistakes):
    exit_code = 42


class DataError(_WithMistakes):
    exit_code = 43


class CredentialError(LauncherError):
    exit_code = 44


class MemoryShortage(LauncherError):
    """Out of memory. ``can_split``: smaller micro-batches may help, which is worth a retry."""

    exit_code = 45

    def __init__(self, message: str, *, can_split: bool):
        super().__init__(message)
        self.can_split = can_split


class HealthError(LauncherError):
    exit_code = 46


class UploadError(LauncherError):
    exit_code = 47


class UnreachableError(LauncherError):
    """A server that does not answer, or answers 429 or 5xx: the same request may succeed later, so a cluster restarts the run."""

    exit_code = 48


class StorageError(LauncherError):
    exit_code = 1


class Aborted(LauncherError):
    exit_code = 130


class Stopped(LauncherError):
    exit_code = 143


# Exit code of the pod of a point that a person has stopped, whose run ends with 143: no rule of the sweep's Job starts it again.
STAYS_STOPPED: Final = 49


class Warned(str):
    """A notice of what makes the result worse than the reader thinks; other notices are plain ``str``."""

    __slots__ = ()


def labelled(notice: str) -> str:
    """``notice`` as a line: ``warning: …`` or ``notice: …``."""
    return f"{'warning' if isinstance(notice, Warned) else 'notice'}: {notice}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the known word closest to ``name``, or None when none is close; case and blanks around it come first."""
    from difflib import get_close_matches

    words = list(known)
    alike = [word for word in words if word.strip().casefold() == name.strip().casefold()]
    close = alike or get_close_matches(name, words, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None
