"""Prints text, facts, tables and notices: wrapped at words on a terminal, unwrapped elsewhere."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from ...errors import labelled

LABEL: Final = 12  # width of the labels of facts
_VERBS: Final = (
    "again|build|chat|check|compare|completion|data|demo|diff|doctor|download|drill|explain|generate|health|init|learned"
    "|list|logs|merge|plan|prune|ps|push|render|report|resume|run|schema|score|secrets|serve|shell|show|status|stop|submit"
    "|tensorboard|upload|why"
)
# A label and one word, such as a path, that wrapping cannot shorten.
_LONG_FACT: Final = re.compile(r"\s*(?:\S+\s{2,})+(?P<word>\S+)")
_COMMAND: Final = re.compile(rf"(?<![\w/.-])launcher (?=(?:{_VERBS})\b)")


def say(text: str = "", *, indent: int = 0, err: bool = False) -> None:
    """Prints ``text``. On a terminal each line is wrapped at words; continuation lines are indented by the line's own indent
    plus ``indent``. Elsewhere lines stay whole, for grep.
    """
    width = columns(err)
    for line in text.split("\n"):
        click.echo(line if width is None else wrapped(line, width, indent), err=err)


def counted(number: int, noun: str) -> str:
    """The number with its noun, with an s unless the number is one."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def complain(line: str) -> None:
    """``say`` on stderr, so that stdout contains only the result."""
    say(line, err=True)


def fail(message: str) -> None:
    """Prints ``error: …`` on stderr, with commands that work in this shell. Quoted lines of a file, with marks below, are not
    wrapped.
    """
    width = columns(err=True)
    head = click.style("error: ", fg="red", bold=True)
    for number, line in enumerate(message.split("\n")):
        is_of_file = line.startswith("    | ")
        line = line if is_of_file else typed(line)
        shown = line if number else f"error: {line}"
        if width is not None and not is_of_file:
            shown = wrapped(shown, width, 4 if number == 0 else 10)
        click.echo(shown if number else head + shown.removeprefix("error: "), err=True)


def facts(labelled: Mapping[str, str | None]) -> None:
    """Prints ``label       fact`` lines with aligned facts. A fact that is None is left out."""
    for label, fact in labelled.items():
        if fact is not None:
            first, *more = fact.splitlines() or [""]
            say(f"{label:<{LABEL}}{first}", indent=LABEL)
            for line in more:
                say(f"{'':<{LABEL}}{line}")


def notices(those: Iterable[str], *, err: bool = False) -> None:
    """Prints each notice once, with ``warning:`` or ``notice:`` in front."""
    for notice in dict.fromkeys(those):
        say(labelled(notice), indent=4, err=err)


def table(rows: Sequence[Sequence[str]], *, optional: Sequence[str] = ()) -> None:
    """Prints ``rows``; the first one contains the names of the columns. On a narrow terminal columns in ``optional`` are
    dropped, in that order.
    """
    width = columns(err=False)
    shown = list(zip(*rows, strict=True))
    for name in optional:
        if width is None or sum(max(map(len, column)) + 2 for column in shown) - 2 <= width:
            break
        shown = [column for column in shown if column[0] != name]
    widths = [max(map(len, column)) for column in shown]
    for row in zip(*shown, strict=True):
        click.echo("  ".join(cell.ljust(most) for cell, most in zip(row, widths, strict=True)).rstrip())


def typed(text: str) -> str:
    """``text`` with this program's commands as they work in this shell, which may not find ``launcher`` by name."""
    return _COMMAND.sub(this_launcher() + " ", text)


def this_launcher() -> str:
    """The word that starts this program: its path if the shell would not find it by name."""
    import os

    called = Path(sys.argv[0])
    if called.name != "launcher" or shutil.which("launcher") == str(called.absolute()):
        return "launcher"
    return min(os.path.relpath(called), str(called.absolute()), key=len)


def columns(err: bool) -> int | None:
    """The terminal's width, at least 40; None without a terminal."""
    stream = sys.stderr if err else sys.stdout
    return max(40, shutil.get_terminal_size().columns) if stream is not None and stream.isatty() else None


def wrapped(line: str, width: int, indent: int = 0) -> str:
    """``line`` in lines of at most ``width``. Words are never cut: a longer path or command is left to the terminal, so that it
    can be copied.
    """
    if len(line) <= width or _LONG_FACT.fullmatch(line):
        return line
    own = len(line) - len(line.lstrip())
    hang = " " * min(own + indent, width // 2)
    begin = _LONG_FACT.match(line)
    if begin and len(begin[0]) > width and len(begin["word"]) + len(hang) > width:  # too long even for a line of its own
        rest = line[begin.end() :].lstrip()
        return f"{begin[0]}\n{hang}{wrapped(rest, width - len(hang)).replace(chr(10), chr(10) + hang)}" if rest else line
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    return wrapper.fill(line)
