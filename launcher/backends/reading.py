"""A run's logs, read from its folder."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ..run_dir import RunDir

_TICK: Final = 0.1  # seconds between two looks at a log


def read_log(run: RunDir, rank: int, is_over: Callable[[], bool], begin: int = 0) -> Iterator[str]:
    """The rank's log from byte ``begin``, in pieces, until the run is over; an empty piece every tenth of a second or so."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in _grown(run.rank_log(rank), is_over, begin):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def tail(path: Path, lines: int) -> str:
    """The last lines of a log, empty if there is none."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _grown(path: Path, is_over: Callable[[], bool], read: int) -> Iterator[bytes]:
    """What a log gains from byte ``read`` on until its run is over; empty while it gains nothing."""
    while True:
        ended = is_over()  # before the look at the log, so that the last look sees all of it
        if path.is_file():
            with path.open("rb") as file:
                file.seek(read)
                while chunk := file.read(1 << 16):
                    read += len(chunk)
                    yield chunk
        if ended:
            return
        yield b""
        time.sleep(_TICK)
