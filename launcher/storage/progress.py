"""How far a transfer is: counted by its threads, told to one listener, who draws it or says it in lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

INTERVAL: Final = 10.0  # seconds between two lines


@dataclass(frozen=True)
class Progress:
    """Bytes; ``kept`` of those ``done`` were there already, and were not sent or read again."""

    done: int
    total: int
    kept: int = 0


Listener = Callable[[Progress], None]


class Meter:
    """Adds up what threads have done; the listener is called by one of them at a time, and never sees less than before."""

    def __init__(self, total: int, listener: Listener | None):
        self._lock = threading.Lock()
        self._now = Progress(0, total)
        self._listener = listener
        self._tell()

    def add(self, size: int, *, kept: bool = False) -> None:
        with self._lock:
            now = self._now
            self._now = replace(now, done=now.done + size, kept=now.kept + (size if kept else 0))
            self._tell()

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener(self._now)


class Lines:
    """A listener for logs: one line every ten seconds, and none for what takes less."""

    def __init__(self, verb: str, say: Callable[[str], None], *, interval: float = INTERVAL):
        """``verb``: what is done, as ``uploaded``; ``say`` takes the lines."""
        self._verb, self._say, self._interval = verb, say, interval
        self._began = self._last = time.monotonic()

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        if clock - self._last < self._interval or now.done == now.total:
            return
        self._last = clock
        speed = (now.done - now.kept) / (clock - self._began)
        left = f", about {(now.total - now.done) / speed:.0f} s left" if speed > 0 else ""
        share = now.done / now.total if now.total else 1.0
        self._say(f"{self._verb} {size(now.done)} of {size(now.total)} ({share:.0%}), {size(speed)}/s{left}")


def size(number: float) -> str:
    """``812 B``, ``1.2 MB``, ``3.4 GB``: as stores count, in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
