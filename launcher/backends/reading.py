"""What a run on this machine printed and recorded, read from its folder."""

from __future__ import annotations

import codecs
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..runs.evidence import gather, last_lines
from ..runs.learned.summary import another_rate, may_be_uploaded, preferences
from ..runs.run_dir import RunDir
from ..why import Evidence
from . import Status
from .spec.environment import GRACE

_TICK: Final = 0.1  # seconds between two looks at a log
_LINES: Final = 30  # shown of a run that never had a rank


class InFolders(ABC):
    """The part of a backend that only reads the folders of runs."""

    @abstractmethod
    def status(self, run: RunDir) -> Status:
        """The run's state, checked where it runs."""

    def read(self, run: RunDir, rank: int | None = 0) -> Iterator[str]:
        return read_log(run, rank, lambda: True)

    def mark(self, run: RunDir) -> int:
        log = run.rank_log(0)
        return log.stat().st_size if log.is_file() else 0

    def wait(self, run: RunDir, say: Callable[[str], None]) -> None:
        while not self.status(run).is_over:
            time.sleep(5 * _TICK)

    def unseen(self, run: RunDir) -> int:
        return 0

    def grace(self, run: RunDir) -> int:
        return GRACE

    def ranks(self, run: RunDir) -> list[int]:
        return sorted(int(path.stem.removeprefix("rank-")) for path in run.logs.glob("rank-*.log"))

    def words(self, run: RunDir) -> str:
        if run.rank_log(0).is_file():
            return ""
        return "\n".join(filter(None, (tail(log, _LINES) for log in (run.logs / "container.log", run.entry_log))))

    def tail(self, run: RunDir) -> list[str]:
        return last_lines(run.steps)

    def record(self, run: RunDir) -> dict[str, Any]:
        return run.read_record()

    def file(self, run: RunDir, path: str) -> str | None:
        try:
            return (run.path / path).read_text(encoding="utf-8")
        except OSError:
            return None

    def checkpoints(self, run: RunDir) -> list[str]:
        return [path.name for path in run.checkpoints()]

    def place(self, run: RunDir) -> str:
        return str(run.path)

    def evidence(self, run: RunDir) -> Evidence:
        return gather(run, self.status(run))

    def next_steps(self, run: RunDir, record: Mapping[str, Any]) -> list[str]:
        upload = [f"upload {run.name}"] if may_be_uploaded(record) else []
        learned = [f"learned {run.name}"] if (record.get("result") or {}).get("learned") else []
        command = f"run --backend {record.get('backend')}"
        after = preferences(record, run.name, command)
        looks = [f"chat {run.name}", f"tensorboard {run.name}"]
        return [*learned, *after, *looks, *upload, *another_rate(record, command)]


def read_log(run: RunDir, rank: int | None, is_over: Callable[[], bool], begin: int = 0) -> Iterator[str]:
    """The rank's log from byte ``begin``, in pieces, until the run is over; an empty piece about every tenth of a second.

    ``rank`` None: whole lines of all ranks, with a prefix.
    """
    if rank is None:
        yield from _all(run, is_over)
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in _grown(run.rank_log(rank), is_over, begin):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def tail(path: Path, lines: int) -> str:
    """The last lines of a log; empty if it does not exist."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _all(run: RunDir, is_over: Callable[[], bool]) -> Iterator[str]:
    grown: dict[Path, Iterator[bytes]] = {}
    rests: dict[Path, bytes] = {}
    ended = False
    while not ended:
        ended = is_over()  # first, so that the last look at the logs sees all of them
        for path in sorted(run.logs.glob("rank-*.log"), key=lambda path: int(path.stem.removeprefix("rank-"))):
            prefix = f"[rank {path.stem.removeprefix('rank-')}] "
            *lines, rests[path] = (rests.get(path, b"") + _more(path, grown)).split(b"\n")
            if ended and rests[path]:
                lines.append(rests[path])
            text = b"\n".join(lines).decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
            yield "".join(f"{prefix}{line}\n" for line in text.split("\n")) if lines else ""
        if not ended:
            yield ""
            time.sleep(_TICK)


def _more(path: Path, grown: dict[Path, Iterator[bytes]]) -> bytes:
    """What was written to the log since the last call."""
    pieces = grown.setdefault(path, _grown(path, lambda: False, 0, 0))
    found = b""
    while piece := next(pieces):
        found += piece
    return found


def _grown(path: Path, is_over: Callable[[], bool], read: int, tick: float = _TICK) -> Iterator[bytes]:
    """What is written to a log from byte ``read`` on, until its run is over; empty while nothing is written."""
    while True:
        ended = is_over()  # first, so that the last look at the log sees all of it
        if path.is_file():
            with path.open("rb") as file:
                file.seek(read)
                while chunk := file.read(1 << 16):
                    read += len(chunk)
                    yield chunk
        if ended:
            return
        yield b""
        time.sleep(tick)
