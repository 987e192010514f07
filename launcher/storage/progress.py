"""Progress of a transfer: counted by its threads, passed to one listener, which draws it or prints lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

FIRST: Final = 1.0  # seconds before the first line
INTERVAL: Final = 5.0  # seconds between two lines


@dataclass(frozen=True)
class Progress:
    """Bytes; ``kept`` of the ``done`` bytes were in place already and were not sent or read again."""

    done: int
    total: int
    kept: int = 0


Listener = Callable[[Progress], None]


class Meter:
    """Adds up the progress of threads; calls the listener from one thread at a time, with values that never fall.

    In a ``with`` statement it also calls ``Lines`` every second, so that a stalled transfer shows.
    """

    def __init__(self, total: int, listener: Listener | None):
        self._lock = threading.Lock()
        self._now = Progress(0, total)
        self._listener = listener
        self._ticking: AbstractContextManager[None] = nullcontext()
        self._tell()

    def __enter__(self) -> Meter:
        if isinstance(self._listener, Lines):
            self._ticking = ticking(self._tick)
        self._ticking.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._ticking.__exit__(*error)

    def add(self, size: int, *, kept: bool = False) -> None:
        with self._lock:
            now = self._now
            self._now = replace(now, done=now.done + size, kept=now.kept + (size if kept else 0))
            self._tell()

    def _tick(self) -> None:
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener(self._now)


@contextmanager
def ticking(tick: Callable[[], None], every: float = FIRST) -> Iterator[None]:
    """Calls ``tick`` every second from its own thread, until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            tick()

    thread = threading.Thread(target=run, name="ticking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Lines:
    """A listener for logs: a line after one second and then every five seconds."""

    def __init__(self, verb: str, say: Callable[[str], None], *, interval: float = INTERVAL):
        """``verb``: such as ``uploaded``; ``say`` takes the lines."""
        self._verb, self._say, self._interval = verb, say, interval
        self._began = time.monotonic()
        self._next = self._began + min(FIRST, interval)

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        if clock < self._next or (now.total and now.done == now.total):
            return
        self._next = clock + self._interval
        if not now.total:
            self._say(f"{self._verb} nothing yet, waiting for {clock - self._began:.0f} s")
            return
        speed = (now.done - now.kept) / (clock - self._began)
        left = f", about {(now.total - now.done) / speed:.0f} s left" if speed > 0 else ""
        share = now.done / now.total
        self._say(f"{self._verb} {size(now.done)} of {size(now.total)} ({share:.0%}), {size(speed)}/s{left}")


def size(number: float) -> str:
    """``812 B``, ``1.2 MB``, ``3.4 GB``: powers of ten, as stores count."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
