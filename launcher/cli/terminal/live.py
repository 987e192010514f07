"""How a run's events are shown: a live line on a terminal with text above it, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import click

from ...runs.follow import Metric, Text, figures, is_shown, short
from .reading import Told
from .screen import complain, wrapped

_QUIET: Final = 4.0  # seconds of silence after which plain output says what the run waits for
_CALM: Final = 60.0  # the same for the next time
_TOLD: Final = 90.0  # the same if the run said it itself, as it may print only a line per minute
_STARTING: Final = "the run is starting"
_BAR: Final = (6, 20)  # minimum and maximum width of the bar
_SPIN: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_NUMBER: Final = re.compile(r"\d[\d,.]*")
_SECONDS: Final = re.compile(r" \(\d+ s\)$")


class Screen(Protocol):
    def show(self, event: Text | Metric) -> None:
        """Shows one event."""

    def tick(self) -> None:
        """Called when nothing has come for a moment."""

    def open(self) -> None:
        """Shows the live line again after ``close``."""

    def close(self) -> None:
        """Restores the terminal."""


def screen() -> Screen:
    """The screen that fits standard output."""
    is_live = sys.stdout is not None and sys.stdout.isatty()  # None if standard output is closed (`>&-`)
    return Live() if is_live else Plain(thin=True)


@contextmanager
def waiting(what: str) -> Iterator[Told]:
    """Shows ``what`` and a clock on a terminal during the block; elsewhere a line on stderr every few seconds. Calls of the
    value with numbers show how far a pass over rows is.
    """
    told = Told()
    if sys.stdout is not None and sys.stdout.isatty():
        with _redrawn(what, told):
            yield told
        return
    over = threading.Event()
    watcher = threading.Thread(target=_in_lines, args=(what, told, over), daemon=True)
    watcher.start()
    try:
        yield told
    finally:
        over.set()
        watcher.join()


@contextmanager
def _redrawn(what: str, told: Told) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live as Redrawn
    from rich.text import Text as Drawn

    console, began = Console(highlight=False, markup=False, emoji=False), time.monotonic()

    def line() -> Drawn:
        seconds = time.monotonic() - began
        return Drawn(waiting_line(what + told.so_far, seconds, console.width, _SPIN[int(seconds * 5) % len(_SPIN)]), no_wrap=True)

    with Redrawn(console=console, get_renderable=line, refresh_per_second=5, transient=True):
        yield


def _in_lines(what: str, told: Told, over: threading.Event) -> None:
    began, last, said = time.monotonic(), 0.0, ""
    while not over.wait(_QUIET):
        words, now = what + told.so_far, time.monotonic()
        if words != said or now - last >= _CALM:
            complain(f"waiting: {words} ({now - began:.0f} s)")
            last, said = now, words


class Plain:
    """One line per event. ``thin``: only about 25 of the training lines, and what a silent starting run waits for, on stderr."""

    def __init__(self, *, thin: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._thin, self._clock = thin, clock
        self._before: Metric | None = None
        self._began = self._last = self._since = clock()
        self._state, self._patience = _STARTING, _QUIET

    def show(self, event: Text | Metric) -> None:
        self._last = self._clock()
        if isinstance(event, Text) and event.line.startswith("waiting: "):
            self._state, self._since, self._patience = event.line.removeprefix("waiting: "), self._last, _TOLD
        elif self._state != _STARTING:
            self._state, self._since, self._patience = _STARTING, self._began, _CALM
        if isinstance(event, Text):
            click.echo(event.line)
        elif not self._thin or is_shown(event, self._before):
            click.echo(short(event))
            self._before = event if event.kind == "train" else self._before

    def tick(self) -> None:
        now = self._clock()
        if self._thin and self._before is None and now - self._last >= self._patience:
            self._last, self._patience = now, max(self._patience, _CALM)
            complain(f"waiting: {self._state} ({now - self._since:.0f} s)")

    def open(self) -> None:
        pass

    def close(self) -> None:
        if sys.stdout is not None:
            sys.stdout.flush()


class Live:
    """A line that is redrawn, with permanent text and evaluations above it.

    Before the first step it shows the run's last message and a clock. Of messages that only count, just the last one stays.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._doing, self._since = "starting", time.monotonic()
        self._held: str | None = None  # text shown in the live line, not yet above it
        self._pace = Pace()
        self.open()

    def show(self, event: Text | Metric) -> None:
        if isinstance(event, Metric) and event.kind == "train":
            self._release()
            self._pace.add(event)
        elif isinstance(event, Metric):
            self._release()
            self._print(short(event))
        elif self._pace.newest is not None or not event.line.strip():
            self._print(event.line)
        else:
            self._hold(event.line)

    def tick(self) -> None:
        """Does nothing: a thread redraws the line."""

    def open(self) -> None:
        from rich.live import Live as Redrawn

        # With soft_wrap a line that is too long would leave a trail, so it is cut to fit.
        self._live: Any = Redrawn(
            console=self._console, get_renderable=self._line, refresh_per_second=5, transient=True, redirect_stderr=False
        )
        self._live.start()

    def close(self) -> None:
        self._release()
        self._live.stop()

    def _hold(self, line: str) -> None:
        if self._held is None or _kind(line) != _kind(self._held):
            self._release()
            self._doing, self._since = _SECONDS.sub("", line).removeprefix("waiting: "), time.monotonic()
        elif not _SECONDS.search(line):
            self._doing = line
        self._held = line

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._print(held)

    def _print(self, line: str) -> None:
        self._console.print(wrapped(line, self._console.width))

    def _line(self) -> Any:
        from rich.text import Text as Drawn

        width = self._console.width
        if self._pace.newest is not None:
            return Drawn(bar_line(self._pace.newest, width, self._pace.left(), self._pace.elapsed()), no_wrap=True)
        now = time.monotonic()
        return Drawn(waiting_line(self._doing, now - self._since, width, _SPIN[int(now * 5) % len(_SPIN)]), no_wrap=True)


class Pace:
    """Speed of the steps, from the first one seen to the newest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._first: tuple[int, float] | None = None
        self._seen = 0.0
        self.newest: Metric | None = None

    def add(self, metric: Metric) -> None:
        self._seen = self._clock()
        self.newest = metric
        if self._first is None:
            self._first = (metric.step, self._second(metric))

    def left(self) -> float | None:
        """Seconds until the last step; None before the second step."""
        if self.newest is None or self._first is None or not self.newest.total or self.newest.step <= self._first[0]:
            return None
        took = (self._second(self.newest) - self._first[1]) / (self.newest.step - self._first[0])
        return max(0.0, took * (self.newest.total - self.newest.step) - (self._clock() - self._seen))

    def elapsed(self) -> float:
        return self._clock() - self._began

    def _second(self, metric: Metric) -> float:
        at = metric.number("seconds")
        return self._seen if at is None else at


def bar_line(now: Metric, width: int, left: float | None, elapsed: float) -> str:
    """The newest step in one line of ``width``; the least important parts are dropped first."""
    step = f"{now.step}" if now.total is None else f"{now.step}/{now.total}"
    figure = {part.partition(" ")[0]: part for part in figures(now, live=True).split("  ")}
    # In display order; the numbers are priorities.
    parts: dict[str, tuple[int, str]] = {
        "step": (1, step if width < 72 else f"step {step}"),
        "bar": (4, "━" * _BAR[0] if now.total else ""),
        "loss": (3, figure.get("loss", "")),
        "margin": (5, figure.get("margin", "")),
        "accuracy": (7, figure.get("accuracy", figure.get("token", ""))),
        "speed": (6, "" if now.rate is None else f"{now.rate:.1f} pairs/s"),
        "left": (2, "finishing" if now.step == now.total else "" if left is None else f"{_clock(left)} left"),
        "elapsed": (8, f"after {_clock(elapsed)}"),
    }
    room = width - 1
    kept: set[str] = set()
    for name, (_, text) in sorted(parts.items(), key=lambda part: part[1][0]):
        if text and len(text) + 2 <= room + 2 * (not kept):
            kept.add(name)
            room -= len(text) + 2 * (len(kept) > 1)
    drawn = {name: text for name, (_, text) in parts.items() if name in kept}
    if "bar" in drawn and now.total:
        drawn["bar"] = _bar(now.step / now.total, min(_BAR[1], _BAR[0] + max(0, room)))
    return "  ".join(drawn.values())


def waiting_line(doing: str, seconds: float, width: int, spin: str) -> str:
    """What a run does before its first step, and for how long."""
    clock = f" {seconds:.0f} s"
    room = width - 1 - len(clock) - len(" …") - 2
    return f"{spin} {doing[:room].rstrip()} …{clock}"


def _bar(share: float, width: int) -> str:
    done = min(width, int(share * width))
    return "━" * done + "─" * (width - done)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _kind(line: str) -> str:
    """``line`` without numbers, to recognise lines that differ only in numbers or elapsed seconds."""
    return _NUMBER.sub("#", _SECONDS.sub("", line))
