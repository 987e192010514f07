"""Every way in which the launcher or the trainer refuses to go on, each with its exit code.

LauncherError            1    anything that has no better name below
├── UsageError           2    the command line
├── ExperimentError     42    the experiment file
├── DataError           43    rows, prompts, pairs
├── CredentialError     44    a credential is missing or refused
├── MemoryShortage      45    out of memory on the device
├── HealthError         46    a health rule, or a loss that is not a number
├── UploadError         47    trained, but not uploaded
├── StorageError         1    an object store does not answer, or has other bytes than it should
├── Aborted            130    a second Ctrl-C
└── Stopped            143    stopped on request, after a checkpoint
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .redact import REDACTOR


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, in a form that an editor can jump to.

    ``where`` is ``file:line:column`` (counted from 1) where a file has a place, else the best name there is. ``source`` is
    the line of the file with ``column`` and ``width`` of the marked value, or None where there is no such line.
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
        lines = [f"{self.where}: {self.what}"]
        if self.source is not None:
            # A tab is as wide as the terminal makes it: repeat it, so that the caret stays below its value.
            indent = "".join("\t" if c == "\t" else " " for c in self.source[: self.column - 1])
            lines += [f"    | {self.source}", f"    | {indent}{'^' * max(1, self.width)}"]
        for name, value in (("expected", self.expected), ("found", self.found), ("hint", self.hint)):
            if value is not None:
                lines.append(f"    {name + ':':<10}{value}")
        return "\n".join(lines)


class LauncherError(Exception):
    """Ends the command with ``exit_code``; its text is shown to the user as it is, but for secrets that an SDK put there."""

    exit_code = 1

    def __str__(self) -> str:
        return REDACTOR.text(super().__str__())


class UsageError(LauncherError):
    exit_code = 2


class _WithMistakes(LauncherError):
    """An error made of one or more mistakes, all reported at once."""

    shown = 20

    def __init__(self, mistakes: Mistake | Iterable[Mistake]):
        self.mistakes = (mistakes,) if isinstance(mistakes, Mistake) else tuple(mistakes)
        assert self.mistakes, "an error needs at least one mistake"
        super().__init__(*self.mistakes)

    def __str__(self) -> str:
        lines = [str(mistake) for mistake in self.mistakes[: self.shown]]
        if len(self.mistakes) > self.shown:
            lines.append(f"… and {len(self.mistakes) - self.shown} more")
        return REDACTOR.text("\n".join(lines))


class ExperimentError(_WithMistakes):
    exit_code = 42


class DataError(_WithMistakes):
    exit_code = 43


class CredentialError(LauncherError):
    exit_code = 44


class MemoryShortage(LauncherError):
    """Out of memory. ``can_split``: smaller micro-batches may help, so the attempt is worth another one."""

    exit_code = 45

    def __init__(self, message: str, *, can_split: bool):
        super().__init__(message)
        self.can_split = can_split


class HealthError(LauncherError):
    exit_code = 46


class UploadError(LauncherError):
    exit_code = 47


class StorageError(LauncherError):
    exit_code = 1


class Aborted(LauncherError):
    exit_code = 130


class Stopped(LauncherError):
    exit_code = 143


class Warned(str):
    """A notice of what makes the result worse than the reader thinks; a plain ``str`` is one that is only worth a look."""

    __slots__ = ()


def labelled(notice: str) -> str:
    """``notice`` as a line: ``warning: …`` or ``notice: …``."""
    return f"{'warning' if isinstance(notice, Warned) else 'notice'}: {notice}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the known word closest to ``name``, or None when none is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None
