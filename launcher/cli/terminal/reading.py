"""Progress while data are read: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .screen import complain

_FIRST, _EVERY = 3.0, 15.0  # seconds before the first line and between lines


class Told:
    """Prints lines. ``rows`` shows how far a pass over rows is."""

    def __init__(self) -> None:
        self.so_far = ""

    def __call__(self, line: str) -> None:
        complain(line)

    def rows(self, done: int, total: int, what: str) -> None:
        self.so_far = f": {what}, {done:,} of {total:,} rows ({done / total:.0%})" if done < total else ""


@contextmanager
def reading() -> Iterator[Told]:
    """Shows the progress of passes over a long table on stderr: a bar on a terminal, occasional lines elsewhere."""
    with ExitStack() as stack:
        yield _Bar(stack) if sys.stderr is not None and sys.stderr.isatty() else _Lines()


class _Bar(Told):
    def __init__(self, stack: ExitStack):
        super().__init__()
        self._stack, self._tasks = stack, dict[str, Any]()
        self._bar: Any = None

    def rows(self, done: int, total: int, what: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            count = TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows")
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeRemainingColumn())
            self._bar = self._stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, visible=done < total)


class _Lines(Told):
    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._clock = clock
        self._next = clock() + _FIRST

    def rows(self, done: int, total: int, what: str) -> None:
        if (now := self._clock()) >= self._next and done < total:
            complain(f"{what}: {done:,} of {total:,} rows ({done / total:.0%})")
            self._next = now + _EVERY
