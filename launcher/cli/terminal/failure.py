"""How an error ends a command: a message on stderr, with ``--json`` also JSON on stdout, and an exit code."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

import click

from ...errors import Aborted, LauncherError, Mistake, UsageError
from .verbs import meant_verb


@dataclass(frozen=True)
class Failure:
    """``kind``: the error's class name. ``mistakes``: in a file or in data, if known.

    ``texts``: the parts of ``message``, one per error.
    """

    kind: str
    message: str
    exit_code: int
    mistakes: tuple[Mistake, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        kind = type(error).__name__
        match error:
            case LauncherError():
                return cls(kind, str(error), error.exit_code, getattr(error, "mistakes", ()), error.texts)
            case click.exceptions.Abort() | KeyboardInterrupt():
                return cls(Aborted.__name__, "aborted", Aborted.exit_code)
            case click.ClickException():
                return cls(UsageError.__name__, _usage(error), UsageError.exit_code)
            case OSError():  # a full or read-only disk is no bug of ours
                parts = (error.filename, (error.strerror or str(error)).lower())
                return cls(kind, ": ".join(str(part) for part in parts if part), 1)
        return cls(kind, f"{kind}: {error}\n    this is a bug in the launcher; --debug shows the traceback", 1)

    def json(self) -> dict[str, Any]:
        names = ("where", "what", "expected", "found", "hint")
        mistakes = [{name: value for name, value in asdict(one).items() if name in names} for one in self.mistakes]
        return {"kind": self.kind, "message": self.message, "mistakes": mistakes, "exit_code": self.exit_code}

    def show(self, *, as_json: bool) -> int:
        """Prints it and returns the exit code."""
        from .screen import fail

        for text in self.texts or (self.message,):
            fail(text)
        if as_json:
            click.echo(json.dumps({"error": self.json()}, indent=2, ensure_ascii=False))
        return self.exit_code


def _usage(error: click.ClickException) -> str:
    """click's message in our format, with the command that shows the help."""
    what = re.split(r" \(?Did you mean ", error.format_message())[0]
    what, near = what.rstrip("."), getattr(error, "possibilities", None)
    lines, context = [what[:1].lower() + what[1:]], getattr(error, "ctx", None)
    of_group = context is not None and context.parent is not None
    meant = None if of_group else meant_verb(getattr(error, "command_name", ""))
    if meant is not None:
        lines.append(f"    hint:     {meant}")
    elif near:
        lines.append(f"    hint:     did you mean {' or '.join(filter(None, (', '.join(sorted(near)[:-1]), max(near))))}?")
    if context is not None:
        lines.append(f"    usage:    {' '.join(context.get_usage().removeprefix('Usage:').split())}")
        lines.append(f"    help:     {context.command_path} --help")
    return "\n".join(lines)
