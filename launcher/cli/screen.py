"""How a run's events are drawn: a live bar with text above it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import click

from ..errors import labelled
from ..runs.follow import Metric, Text, figures, is_shown, short

LABEL: Final = 12  # columns of the labels of facts


def say(text: str = "", *, indent: int = 0, err: bool = False) -> None:
    """Prints ``text``. On a terminal each line is wrapped at words, what follows is indented by its own indent and ``indent``
    more; elsewhere lines stay whole, for grep."""
    width = _columns(err)
    for line in text.split("\n"):
        click.echo(line if width is None else _wrapped(line, width, indent), err=err)


def complain(line: str) -> None:
    """``say`` on standard error, so that standard output holds the answer alone."""
    say(line, err=True)


def fail(message: str) -> None:
    """``error: …`` on standard error. Lines of a file, with a mark below them, are left whole."""
    width = _columns(err=True)
    head = click.style("error: ", fg="red", bold=True)
    for number, line in enumerate(message.split("\n")):
        shown = line if number else f"error: {line}"
        if width is not None and not line.startswith("    | "):
            shown = _wrapped(shown, width, 4 if number == 0 else 10)
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


def _columns(err: bool) -> int | None:
    """The width of the terminal that is written to, at least 40; None where there is none."""
    stream = sys.stderr if err else sys.stdout
    return max(40, shutil.get_terminal_size().columns) if stream is not None and stream.isatty() else None


def _wrapped(line: str, width: int, indent: int) -> str:
    """Words are never cut: a path or a command that is longer than a line is left to the terminal, and can be copied."""
    if len(line) <= width:
        return line
    own = len(line) - len(line.lstrip())
    hang = " " * min(own + indent, width // 2)
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    return wrapper.fill(line)


class Screen(Protocol):
    def show(self, event: Text | Metric) -> None:
        """Draws one event."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


def screen() -> Screen:
    """The screen that standard output deserves."""
    return Live() if sys.stdout is not None and sys.stdout.isatty() else Plain(thin=True)  # None: it was closed (`>&-`)


class Plain:
    """One line an event; ``thin``: of the training lines about 25."""

    def __init__(self, *, thin: bool) -> None:
        self._thin = thin
        self._before: Metric | None = None

    def show(self, event: Text | Metric) -> None:
        if isinstance(event, Text):
            click.echo(event.line)
        elif not self._thin or is_shown(event, self._before):
            click.echo(short(event))
            self._before = event if event.kind == "train" else self._before

    def close(self) -> None:
        if sys.stdout is not None:
            sys.stdout.flush()


class Live:
    """A bar that is redrawn, and above it what must stay: text and evaluations."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        step = (TextColumn("step"), MofNCompleteColumn())
        figures = TextColumn("{task.fields[figures]}", markup=False)
        times = (TimeElapsedColumn(), TextColumn("left", style="dim"), TimeRemainingColumn())
        # What does not fit would be cut in the middle of a number: a narrow terminal shows the figures alone.
        wide = self._console.width >= 100
        columns = (*step, BarColumn(bar_width=10), figures, *times) if wide else (*step, figures)
        self._progress = Progress(*columns, console=self._console, refresh_per_second=5)
        self._task = self._progress.add_task("", total=None, figures="", visible=False)
        self._progress.start()

    def show(self, event: Text | Metric) -> None:
        if isinstance(event, Text):
            self._console.print(event.line)
            return
        if event.kind != "train":
            self._console.print(short(event))
            return
        self._progress.update(
            self._task, completed=event.step, total=event.total, figures=figures(event, live=True), visible=True
        )

    def close(self) -> None:
        self._progress.stop()
