"""StopRequest: whether this process was asked to stop. It imports nothing heavy: it must listen before anything else."""

from __future__ import annotations

import signal
from types import FrameType


class StopRequest:
    """Remembers SIGTERM or SIGINT; the training ends after its step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
