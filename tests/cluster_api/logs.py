"""What containers have printed, with the times of a kubelet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class Log:
    """One container's output. A line may come in pieces; its time is that of its first one. ``ended``: it prints no more.

    ``zone``: hours east of UTC of the machine, in whose time its runtime stamps.
    """

    lines: list[tuple[int, bytes]] = field(default_factory=list)  # nanoseconds since 1970, text
    ended: bool = False
    zone: int = 0
    kept: int = 0  # lines before this one are rotated away
    listeners: list[Callable[[], None]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def write(self, text: str | bytes, at: float | None = None) -> None:
        """Appends ``text``, whole lines or a piece of one, at ``at`` seconds since 1970 (now)."""
        data = text.encode() if isinstance(text, str) else text
        stamp = time.time_ns() if at is None else round(at * 1e9)
        with self.lock:
            for piece in data.splitlines(keepends=True):
                if self.lines and not self.lines[-1][1].endswith(b"\n"):
                    self.lines[-1] = (self.lines[-1][0], self.lines[-1][1] + piece)
                else:
                    self.lines.append((stamp, piece))
        self._tell()

    def end(self) -> None:
        """The container is over: who follows reads to the end."""
        self.ended = True
        self._tell()

    def rotate(self) -> None:
        """What was printed so far can no longer be read."""
        self.kept = len(self.lines)

    def select(self, *, since: float | None, tail: int | None, stamped: bool) -> Iterator[bytes]:
        """The lines so far, each whole or, at the end, a piece."""
        with self.lock:
            chosen = list(enumerate(self.lines))[self.kept :]
        if since is not None:
            chosen = [one for one in chosen if one[1][0] >= since * 1e9]
        if tail is not None:
            chosen = chosen[-tail:] if tail else []
        for _, (stamp, text) in chosen:
            yield (rfc3339(stamp, self.zone).encode() + b" " if stamped else b"") + text

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()


def rfc3339(nanoseconds: int, zone: int = 0) -> str:
    """A time as a kubelet writes it, with nine digits, on a machine ``zone`` hours east of UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    local = datetime.fromtimestamp(seconds, UTC) + timedelta(hours=zone)
    return f"{local:%Y-%m-%dT%H:%M:%S}.{rest:09d}" + (f"{zone:+03d}:00" if zone else "Z")
