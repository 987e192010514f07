"""torchrun and all processes below it: the entry starts them, stops them, and outlives them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from launcher.runs.processes import kill

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TICK = 0.2  # seconds between two looks at the ranks' logs
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Children:
    """torchrun and all processes below it: asked once to stop, and dead when ``run`` returns."""

    grace: int
    stop_files: tuple[Path, ...] = ()  # one that exists asks to stop, and to stay stopped
    torchrun: subprocess.Popen[bytes] | None = field(default=None, init=False)
    stop_wanted: bool = field(default=False, init=False)
    was_forced: bool = field(default=False, init=False)
    were_given_up: bool = field(default=False, init=False)
    stays_stopped: bool = field(default=False, init=False)
    _is_told: bool = field(default=False, init=False)

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._force)
        # Orphans of a torchrun that was killed become this process's children, and are found as such.
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def look(self) -> bool:
        """Whether a stop was requested, by a signal or by a file; passes a file's request on to torchrun."""
        if not self.stays_stopped and any(file.exists() for file in self.stop_files):
            self.stays_stopped = self.stop_wanted = True
            self._tell()
        return self.stop_wanted

    def run(self, argv: list[str], *, log: Path, env: Mapping[str, str], meanwhile: Callable[[], None] | None = None) -> int:
        """torchrun's own exit code, negative for a signal. ``meanwhile`` is called every 0.2 s until it ends."""
        if self.stop_wanted:
            return 0
        # torchrun's output only: the ranks have logs of their own. Its timeout must end before this one's.
        patience = max(1, self.grace - 30, self.grace * 3 // 4)
        # DeepSpeed looks for ninja, which is installed beside Python, on the path.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        own = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(patience), "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
        self.torchrun, self._is_told = None, False
        with log.open("ab") as out:
            self.torchrun = subprocess.Popen(
                argv,
                env={**own, **_inherited(), **secrets(), "PATH": path, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=_die_with(os.getpid()),
            )
        if self.stop_wanted:
            self._tell()
        code = _wait(self.torchrun, meanwhile)
        signal.setitimer(signal.ITIMER_REAL, 0)
        kill(None, os.getpid())
        return code

    def give_up(self) -> None:
        """Kills the processes: what they wait for will never come. For ``meanwhile``."""
        self.were_given_up = True
        kill(None, os.getpid(), patience=5)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_wanted = True
        self._tell()

    def _tell(self) -> None:
        if self.torchrun is None or self._is_told:
            return
        self._is_told = True
        self.torchrun.send_signal(signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, self.grace)

    def _force(self, number: int, frame: FrameType | None) -> None:
        self.was_forced = True
        kill(None, os.getpid(), patience=5)


def _wait(process: subprocess.Popen[bytes], meanwhile: Callable[[], None] | None) -> int:
    """The process's exit code. No thread: a fork of a process that has one may never come to its exec."""
    while meanwhile is not None:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=_TICK)
        meanwhile()
    return process.wait()


def _inherited() -> dict[str, str]:
    """This process's environment without torchrun's options: Kubeflow sets ``PET_NODE_RANK`` and others for one of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PET_")}


def secrets() -> dict[str, str]:
    """The secrets that a container has as files, by name; none on a host, where the environment has them."""
    folder = os.environ.get("DPO_SECRETS")
    # A mounted Kubernetes Secret has hidden folders beside its files.
    files = [path for path in Path(folder).iterdir() if not path.name.startswith(".")] if folder else []
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def _die_with(parent: int) -> Any:
    """For the child, between fork and exec: it must die with a killed parent."""

    def ask_the_kernel() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before it was asked for
            os._exit(143)

    return ask_the_kernel
