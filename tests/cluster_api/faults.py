"""Faults of an API server that a test asks for."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to the next ``times`` requests that fit (None: to all), instead of an answer.

    ``status`` is answered; without one the connection is dropped, after ``after`` bytes of the answer if that is set, which may
    be a stream's. With a ``gate`` they wait until that is set, and are answered as ever.
    """

    method: str
    path: re.Pattern[str]
    status: int | None
    times: int | None
    message: str
    reason: str
    headers: dict[str, str]
    after: int | None
    done: bool  # the request is carried out, and only its answer is lost, or is ``status``
    gate: threading.Event | None = None

    @property
    def is_cut(self) -> bool:
        return not self.done and self.status is None and self.after is None and self.gate is None


@dataclass
class Faults:
    """The list of them; any thread may use it."""

    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The first fault for this request, which is used up by it."""
        with self._lock:
            for fault in self._faults:
                if fault.method in ("*", method) and fault.path.search(path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None
