"""How a run's events are drawn: a live bar with text above it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Protocol

import click

from ..runs.follow import Metric, Text, figures, is_shown, short


def complain(line: str) -> None:
    """A line on standard error, so that standard output holds the answer alone."""
    click.echo(line, err=True)


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
