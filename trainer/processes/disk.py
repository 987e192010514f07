"""Finds out whether a disk caused a failed write: libraries may hide the system's error, so the folder is tried again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from launcher.errors import LauncherError

from .ending import explained

_RESERVE: Final = 256 * 1024  # bytes: more than a run's record, an exit note and the last lines of a log take
_TRIED: Final = b"\0" * (1 << 20)  # what a full disk still takes is less: a failed write has left a piece of a block


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an error without a known cause into the system's own if ``folder`` cannot be written now.

    torch.save raises a RuntimeError about positions in its zip file, whatever the system's error.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, LauncherError) or explained(error) is not None:
            raise
        cause = why_unwritable(folder)
        if cause is None:
            raise
        raise cause from error


def why_unwritable(folder: Path) -> OSError | None:
    """The system's error when a megabyte is written to ``folder`` (and removed again); None if it works."""
    tried = folder / f".tried.{os.getpid()}"
    try:
        with tried.open("xb") as file:
            file.write(_TRIED)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return OSError(error.errno, error.strerror, str(folder))
    finally:
        with suppress(OSError):
            tried.unlink(missing_ok=True)
    return None


def reserve(attempt: Path) -> None:
    """Reserves space in the attempt's folder for its exit notes: a full disk has none."""
    with suppress(OSError):
        (attempt / "reserve").write_bytes(b"\0" * _RESERVE)


def make_room(attempt: Path) -> None:
    """Frees the reserved space before the exit notes are written."""
    with suppress(OSError):
        (attempt / "reserve").unlink(missing_ok=True)
