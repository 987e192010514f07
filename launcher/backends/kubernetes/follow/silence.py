"""A run that runs and prints nothing at all: an image that is not ours, or a first process that hangs."""

from __future__ import annotations

import time
from typing import Final

from .run import ClusterRun

SILENT: Final = 120.0  # seconds in which an image of ours has printed its first line: it takes one or two


class Silence:
    """Reports a run that has printed nothing since its pods run, and again each time when that has lasted twice as long."""

    def __init__(self, run: ClusterRun):
        self._run, self._began, self._next = run, 0.0, SILENT

    def words(self, *, is_running: bool, has_lines: bool) -> str | None:
        """What to print now, if anything."""
        if has_lines or not is_running:
            self._began, self._next = 0.0, SILENT
            return None
        now = time.monotonic()
        self._began = self._began or now
        lasted = now - self._began
        if lasted < self._next:
            return None
        self._next *= 2
        image = f" ({self._run.image})" if self._run.image else ""
        return (
            f"notice: {self._run.name} has run for {lasted / 60:.0f} min and printed nothing; an image of launcher build prints "
            f"within seconds: check launch.image{image}, or see: launcher why {self._run.name}\n"
        )
