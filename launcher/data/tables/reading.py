"""Where data are read, and with which credentials and cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .progress import Rows, nothing


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Reading:
    """Where data are read, and with what.

    A relative ``datasets_path`` is below ``root``. ``env`` has the credentials; ``cache`` keeps what was fetched (None: the
    caller's own). ``copy``: the folder of a run that may have a snapshot of the spreadsheet, which is then read in place of the
    sheet, without credentials. ``say`` is told why reading takes long. ``commit``: of the hub's dataset; None: the one that
    its revision is now.
    """

    root: Path = Path()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cache: Path | None = None
    copy: Path | None = None
    say: Callable[[str], None] = _silent
    commit: str | None = None

    @property
    def rows(self) -> Rows:
        """The listener for progress: the method ``rows`` of ``say``, if it has one."""
        found: Rows = getattr(self.say, "rows", nothing)
        return found
