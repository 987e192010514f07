"""Whether the kernel killed processes because main memory ran out, from its counters."""

from __future__ import annotations

import os
import re
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Kills:
    """The number of kills: in this process's cgroup, and on the whole machine; None if unreadable."""

    group: int | None
    machine: int | None

    @classmethod
    def now(cls) -> Self:
        return cls(_count(group_file("memory.events", "memory.oom_control")), _count(Path("/proc/vmstat")))

    def since(self, before: Kills) -> bool | None:
        """Whether memory ran out after ``before``; None if no counter can be read.

        The machine's counter includes other processes: it counts only if the cgroup's is unknown.
        """
        for now, then in ((self.group, before.group), (self.machine, before.machine)):
            if now is not None and then is not None:
                return now > then
        return None


def killed(what: str, before: Kills, after: Kills, used: str = "") -> str:
    """The sentence for ``what`` (a rank, torchrun) that was ended by SIGKILL. ``used``: see :func:`memory_used`."""
    shortage = after.since(before)
    if shortage is None:
        return f"{what} was killed (SIGKILL): often because main memory ran out{used}; check `dmesg`"
    if shortage:
        return f"the kernel killed {what}: main memory ran out{used}"
    return f"{what} was killed (SIGKILL) by a user or the system; memory had not run out{used}"


def memory_used() -> str:
    """`` (largest process: 3.1 of 16.0 GiB)``: of the processes that have ended below this one."""
    peak, most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, _memory()
    return f" (largest process: {peak / 2**30:.1f} of {most / 2**30:.1f} GiB)" if peak and most else ""


def _memory() -> int:
    """The memory limit in bytes of this process's cgroup, or the machine's memory."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = group_file("memory.max", "memory.limit_in_bytes")
    with suppress(OSError, ValueError):  # "max"
        return min(most, int(limit.read_text())) if limit is not None else most
    return most


def group_file(second: str, first: str) -> Path | None:
    """A file of this process's cgroup, by its name in cgroup v2 and v1."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    groups = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    tried = [_CGROUPS / groups[""].lstrip("/") / second] if "" in groups else []
    old = next((path for names, path in groups.items() if "memory" in names.split(",")), None)
    tried += [] if old is None else [_CGROUPS / "memory" / old.lstrip("/") / first, _CGROUPS / "memory" / first]
    return next((path for path in tried if path.is_file()), None)


def _count(counters: Path | None) -> int | None:
    with suppress(OSError):
        found = re.search(r"^oom_kill (\d+)$", counters.read_text(), re.MULTILINE) if counters is not None else None
        return None if found is None else int(found[1])
    return None
