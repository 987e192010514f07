"""Processes of this machine, by /proc: the identity of one, whether it is alive, and all that belong to a run."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

MARK: Final = "DPO_RUN_FOLDER"  # every process of a run has the run's folder under this name in its environment
# In the environment of a pod that learns from its index which run it is: the entry replaces them by the run's folder and name.
OWN_FOLDER: Final = "@run-folder@"
OWN_NAME: Final = "@run-name@"
_PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process, identified for good: pids are reused, and start from 1 after a reboot."""

    pid: int
    start_time: int  # clock ticks since boot, field 22 of /proc/<pid>/stat
    boot_id: str
    host: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has ``pid`` now; None if no live process has it (a zombie is not alive)."""
        stat = _stat(pid)
        return None if stat is None else cls(pid, stat[1], _boot_id(), socket.gethostname())

    @classmethod
    def parse(cls, record: object) -> Process | None:
        """The process in a run's record; None if the record has none."""
        if not isinstance(record, Mapping):
            return None
        pid, start_time = record.get("pid"), record.get("start_time")
        if not isinstance(pid, int) or not isinstance(start_time, int):
            return None
        return cls(pid, start_time, str(record.get("boot_id")), str(record.get("host")))

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Whether the process belongs to this machine, which can see if it is alive."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Sends a signal if the process is alive, else returns False."""
        if not self.alive:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False


def members(folder: str | None, root: int | None = None) -> list[int]:
    """The processes of a run: those with its mark, ``root`` and its descendants, without the caller itself."""
    pids = [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]
    parents = {pid: stat[0] for pid in pids if (stat := _stat(pid)) is not None}
    found = {pid for pid in parents if folder is not None and _marked(pid, folder)}
    if root is not None:
        found |= {root} & parents.keys()
        found |= {pid for pid in parents if _descends(pid, root, parents)}
    return sorted(found - {os.getpid()})


def kill(folder: str | None, root: int | None = None, *, patience: float = 20) -> list[int]:
    """Kills every process of a run; returns those that are still alive after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while left := members(folder, root):
        if time.monotonic() > deadline:
            break
        # In a loop: a process may fork between the listing and the signal.
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return left


def _descends(pid: int, root: int, parents: Mapping[int, int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid == root:
            return True
    return False


def _marked(pid: int, folder: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # gone, or another user's
        return False
    return os.fsencode(f"{MARK}={folder}") in environment.split(b"\0")  # bytes, in any locale


def _stat(pid: int) -> tuple[int, int] | None:
    """(parent, start time) of a process; None for a zombie or no process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # from field 3 on: the name of a command may contain any character
    return None if fields[0] in ("Z", "X") else (int(fields[1]), int(fields[19]))


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
