"""StopRequest: whether this process was asked to stop. It imports nothing heavy: it must listen before anything else."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Final

_PATIENCE: Final = 90.0  # seconds after a request in which torchrun kills its ranks, where it does not say so
_LEFT: Final = 10.0  # seconds of them for what comes after the last checkpoint is written


class StopRequest:
    """Remembers SIGTERM or SIGINT; the training ends after its step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._until: float | None = None

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        if self._until is None:
            patience = float(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _PATIENCE))
            self._until = time.monotonic() + max(patience / 2, patience - _LEFT)

    @property
    def until(self) -> float | None:
        """When this process must have ended, in seconds of the monotonic clock; None if no stop was requested."""
        return self._until
