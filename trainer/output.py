"""What this process prints: lines, events of the training, and the name of a stage that takes long.

The launcher follows these lines in the rank's log; the Python API replaces them by a bar or by short lines (``using``). It loads
nothing heavy: it prints before torch is imported.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from launcher.errors import labelled

FIRST: Final = 1.0  # seconds after which a stage is named: a shorter one prints nothing
EVERY: Final = 5.0  # seconds between two lines about a long stage


class Output(Protocol):
    """Where lines go."""

    def line(self, text: str) -> None:
        """Prints a whole line."""

    def event(self, line: str) -> None:
        """Prints one line of ``dpo_train_steps.jsonl``."""


class Log:
    """The output of a rank: each line and each event as it is. The launcher follows and parses it."""

    def line(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201 - the launcher follows the rank's output

    def event(self, line: str) -> None:
        print(line, flush=True)  # noqa: T201 - the launcher follows the rank's output


class Stage:
    """A part of the work with a name, and how far it is."""

    def __init__(self, what: str):
        self._what, self.began = what, time.monotonic()
        self._progress: tuple[int, int, str] | None = None

    def at(self, done: int, total: int, unit: str) -> None:
        """``done`` of ``total`` are done, counted in ``unit``."""
        self._progress = (done, total, unit)

    def __str__(self) -> str:
        if self._progress is not None:
            done, total, unit = self._progress
            return f"{self._what}: {done:,} of {total:,} {unit}"
        seconds = time.monotonic() - self.began
        return self._what if seconds < EVERY - FIRST else f"{self._what} ({seconds:.0f} s)"


class _State:
    def __init__(self) -> None:
        self.output: Output = Log()
        self.last = time.monotonic()  # when anything was printed
        self.stages: list[Stage] = []  # the innermost one last: it alone is named


_STATE = _State()


def say(line: str) -> None:
    _STATE.last = time.monotonic()
    _STATE.output.line(line)


def notices(found: Iterable[str]) -> None:
    """Prints each as ``warning: …`` or ``notice: …``."""
    for one in found:
        say(labelled(one))


def event(line: str) -> None:
    _STATE.last = time.monotonic()
    _STATE.output.event(line)


@contextmanager
def using(output: Output) -> Iterator[None]:
    """Prints by ``output`` for as long as this lasts."""
    before, _STATE.output = _STATE.output, output
    _STATE.last = time.monotonic()
    try:
        yield
    finally:
        _STATE.output = before


@contextmanager
def stage(what: str, *, after: float = FIRST) -> Iterator[Stage]:
    """Prints ``what`` once it has taken ``after`` seconds, and whenever nothing at all was printed for five.

    The first rank alone prints. A stage may lie in another one, which is silent meanwhile.
    """
    current = Stage(what)
    if os.environ.get("RANK", "0") != "0":
        yield current
        return
    if after == 0:
        say(str(current))
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(current, over, after), name="stage", daemon=True)
    _STATE.stages.append(current)
    watch.start()
    try:
        yield current
    finally:
        _STATE.stages.remove(current)
        over.set()
        watch.join()


@contextmanager
def quiet(seconds: float) -> Iterator[None]:
    """Keeps the stages around it silent, for ``seconds`` at most: what they wait for has been said."""
    cover = Stage("")

    def uncover() -> None:
        if cover in _STATE.stages:
            _STATE.stages.remove(cover)

    timer = threading.Timer(seconds, uncover)
    timer.daemon = True
    _STATE.stages.append(cover)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        uncover()


def _watch(current: Stage, over: threading.Event, after: float) -> None:
    is_named = after == 0

    def left() -> float:
        """Seconds until the stage is to be named."""
        if _STATE.stages[-1:] != [current]:
            return FIRST  # look again when the inner one may be over
        silent = _STATE.last + EVERY
        return (silent if is_named else min(current.began + after, silent)) - time.monotonic()

    while not over.wait(max(0.02, left())):
        if left() <= 0:
            say(str(current))
            is_named = True
