"""What the command line prints: text, facts, tables and notices, wrapped at words on a terminal and whole elsewhere."""

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

LABEL: Final = 12  # columns of the labels of facts
_VERBS: Final = (
    "again|build|chat|check|compare|completion|data|demo|diff|doctor|download|drill|explain|generate|health|init|learned"
    "|list|logs|merge|plan|prune|ps|push|render|report|resume|run|schema|score|secrets|serve|shell|show|status|stop|submit"
    "|tensorboard|upload|why"
)
_LONG_FACT: Final = re.compile(r"\s*(?:\S+\s{2,})+(?P<word>\S+)")  # labels and a word, such as a path, that no wrapping shortens
_COMMAND: Final = re.compile(rf"(?<![\w/.-])launcher (?=(?:{_VERBS})\b)")


def say(text: str = "", *, indent: int = 0, err: bool = False) -> None:
    """Prints ``text``. On a terminal each line is wrapped at words, what follows is indented by its own indent and ``indent``
    more; elsewhere lines stay whole, for grep."""
    width = columns(err)
    for line in text.split("\n"):
        click.echo(line if width is None else wrapped(line, width, indent), err=err)


def counted(number: int, noun: str) -> str:
    """The number with its noun, which has an s unless it is one."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def complain(line: str) -> None:
    """``say`` on standard error, so that standard output holds the answer alone."""
    say(line, err=True)


def fail(message: str) -> None:
    """``error: …`` on standard error, with commands as they can be typed here. Lines of a file, with a mark below them, are left
    whole."""
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
    """``label       fact`` lines with their facts in one column; a fact that is None is left out."""
    for label, fact in labelled.items():
        if fact is not None:
            first, *more = fact.splitlines() or [""]
            say(f"{label:<{LABEL}}{first}", indent=LABEL)
            for line in more:
                say(f"{'':<{LABEL}}{line}")


def notices(those: Iterable[str], *, err: bool = False) -> None:
    """Each once, marked ``warning:`` or ``notice:``."""
    for notice in dict.fromkeys(those):
        say(labelled(notice), indent=4, err=err)


def table(rows: Sequence[Sequence[str]], *, optional: Sequence[str] = ()) -> None:
    """Prints ``rows``, the first of which has the names of the columns. Where a terminal is too narrow, columns that are
    ``optional`` are left out, the first one first."""
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
    """``text`` with the commands of this program in it as they can be typed here: a shell may not find it by its name."""
    return _COMMAND.sub(this_launcher() + " ", text)


def this_launcher() -> str:
    """The word that starts this program again: its path, where a shell would not find it by name."""
    import os

    called = Path(sys.argv[0])
    if called.name != "launcher" or shutil.which("launcher") == str(called.absolute()):
        return "launcher"
    return min(os.path.relpath(called), str(called.absolute()), key=len)


def columns(err: bool) -> int | None:
    """The width of the terminal that is written to, at least 40; None where there is none."""
    stream = sys.stderr if err else sys.stdout
    return max(40, shutil.get_terminal_size().columns) if stream is not None and stream.isatty() else None


def wrapped(line: str, width: int, indent: int = 0) -> str:
    """``line`` in lines of at most ``width``. Words are never cut: a path or a command that is longer than a line is left to the
    terminal, and can be copied."""
    if len(line) <= width or _LONG_FACT.fullmatch(line):
        return line
    own = len(line) - len(line.lstrip())
    hang = " " * min(own + indent, width // 2)
    begin = _LONG_FACT.match(line)
    if begin and len(begin[0]) > width and len(begin["word"]) + len(hang) > width:  # no line of its own is long enough, either
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
