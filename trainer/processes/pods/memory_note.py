"""Records how much main memory a pod used before it was killed silently.

When a pod's memory runs out, the kernel kills all its processes at once, so that none can report it. The cluster
knows it while the pod exists. So the entry notes in the attempt's folder when little memory is left, for later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from ..kills import group_file

_LITTLE: Final = 0.8  # of the limit: from here on the use is noted
_MORE: Final = 0.02  # of the limit: by which it must have grown to be noted again
_KILLED: Final = 137


class MemoryNote:
    """Notes the memory of this control group in ``attempt-<n>/memory-<node>.json``: {"used", "limit"}, bytes."""

    def __init__(self, run: RunDir, attempt: int):
        self._note = run.memory_note(attempt)
        self._limit = _number(group_file("memory.max", "memory.limit_in_bytes"))
        self._stat = group_file("memory.stat", "memory.stat")
        self._noted = 0

    def look(self) -> None:
        if self._limit is None or self._stat is None:
            return
        used = _used(self._stat)
        if used < max(_LITTLE * self._limit, self._noted + _MORE * self._limit):
            return
        self._noted = used
        with suppress(OSError):  # a volume may stumble; the training goes on
            write_whole(self._note, json.dumps({"used": used, "limit": self._limit}))


def silent(run: RunDir, attempt: Mapping[str, Any]) -> dict[str, Any]:
    """``attempt`` of this node's record, with its end if it was killed in its pod before it could report."""
    if attempt.get("exit_code") is not None or "pod" not in attempt:
        return dict(attempt)
    told = {"exit_code": _KILLED, "state": "failed", "sentence": run.killed_silently(attempt)}
    return {**attempt, **told}


def _used(stat: Path) -> int:
    """Bytes that cannot be freed: processes and /dev/shm; the kernel drops cached files first."""
    with suppress(OSError):
        text = stat.read_text()
        found = dict(re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE))
        return sum(int(found.get(name, 0)) for name in ("anon", "rss", "shmem"))
    return 0


def _number(file: Path | None) -> int | None:
    """The limit; None without one."""
    with suppress(OSError, ValueError):  # "max"
        found = int(file.read_text()) if file is not None else 0
        return found if 0 < found < 1 << 60 else None  # the first version's "no limit"
    return None
