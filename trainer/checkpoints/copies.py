"""Uploads copies of a run's checkpoints: from one rank, or from the first rank of each node if nodes share no folder.

Nodes without a shared folder each have a part of a checkpoint. Each uploads what only it has, and the first node writes
the manifest when all parts are there. All ranks decide together which checkpoints are uploaded: where a node is still busy with
one, the next one is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from accelerate.utils import gather_object

from launcher.storage.checkpoints.aside import names_below

from .mirror import Mirror


class Copies(Protocol):
    """What the trainer calls for each complete checkpoint, and at the end."""

    def offer(self, checkpoint: Path, best: int | None) -> None: ...

    def finish(self, until: float | None, *, together: bool) -> None:
        """Waits until all is uploaded, at most ``until``; ``together``: every rank is here."""


class Alone:
    """For a run whose first rank sees the whole checkpoint; ``mirror`` is None on the others."""

    def __init__(self, mirror: Mirror | None):
        self._mirror = mirror

    def offer(self, checkpoint: Path, best: int | None) -> None:
        if self._mirror is not None:
            self._mirror.offer(checkpoint, best)

    def finish(self, until: float | None, *, together: bool) -> None:
        if self._mirror is not None:
            self._mirror.finish(until)


class Together:
    """For a run whose nodes share no folder; only the first rank of each ``node`` has a ``mirror``."""

    def __init__(self, mirror: Mirror | None, node: int):
        self._mirror, self._node = mirror, node
        self._left: tuple[Path, int | None] | None = None  # the newest one that was not uploaded, on every rank

    def offer(self, checkpoint: Path, best: int | None) -> None:
        """All ranks must call this."""
        mirror = self._mirror
        if any(gather_object([mirror is not None and mirror.is_busy])):
            self._left = checkpoint, best
            return
        self._left = None
        mine = (self._node, names_below(checkpoint)) if mirror is not None else None
        found = gather_object([mine])
        if mirror is None or mine is None:
            return
        before = {name for other in found if other is not None and other[0] < self._node for name in other[1]}
        mirror.offer(checkpoint, best, None if self._node == 0 else [name for name in mine[1] if name not in before])

    def finish(self, until: float | None, *, together: bool) -> None:
        if together:
            if self._mirror is not None:
                self._mirror.wait(until)
            if self._left is not None:
                self.offer(*self._left)
        if self._mirror is not None:
            self._mirror.finish(until)
