"""Runs as real processes that import nothing: one process imports torch and TRL, and forks every entry, torchrun and rank.

Importing takes a rank most of its time. All that a process runs is the real code, torchrun's too; only where Python would be
started anew, and import what is imported here, this process is forked. ``python -m tests.trainer.forks`` reads orders, one a
line: ``start {folder, env}`` is answered with a process id, ``wait PID`` with the exit code.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self

from launcher.runs.processes import members
from tests.waiting import PATIENCE

REPOSITORY: Final = Path(__file__).parents[2]
_IMPORTED: Final = (
    "trainer.__main__", "trainer.train", "trainer.step.dpo",
    "deepspeed", "mlflow", "transformers.models.qwen3.modeling_qwen3",  # which accelerate and transformers import in a rank
)  # fmt: skip
_LOOK: Final = 0.02  # seconds
HOLD_AT: Final = "FORKS_HOLD_AT"  # in the environment of an entry: a step at which its first rank stands still


class Forks:
    """Starts entries as forks of a process that has imported torch."""

    def __init__(self, folder: Path, env: Mapping[str, str]):
        argv = [sys.executable, "-m", "tests.trainer.forks"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._log = (folder / "forks.log").open("wb")
        self._process = subprocess.Popen(argv, cwd=REPOSITORY, env=env, text=True, stderr=self._log, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kill_all(self._process.pid)
        self._process.wait()
        self._log.close()

    def start(self, folder: Path, env: Mapping[str, str]) -> int:
        """The process id of the entry on the run in ``folder``; it leads a session of its own."""
        return self._answer(f"start {json.dumps({'folder': str(folder), 'env': dict(env)})}")

    def end(self, entry: int) -> int:
        """The exit code of an entry, negative for a signal; one that takes too long is killed."""
        late = threading.Timer(PATIENCE, kill_all, (entry,))
        late.start()
        code = self._answer(f"wait {entry}")
        late.cancel()
        return code

    def _answer(self, line: str) -> int:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process that forks has ended: {Path(self._log.name).read_text()}"
        return int(answer)


def kill_all(entry: int) -> None:
    """Kills an entry and all below it, as a machine that is lost does."""
    for pid in members(None, entry):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Fork:
    """What torchrun and the entry use of ``subprocess.Popen``, for a fork that calls ``body``."""

    def __init__(self, body: Callable[[], object], env: Mapping[str, str], before: Callable[[], None]):
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _as_new(body, env, before)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("fork", timeout or 0)
            time.sleep(_LOOK)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _as_new(body: Callable[[], object], env: Mapping[str, str], before: Callable[[], None]) -> None:
    """Calls ``body`` with what a started process has: its environment, no handlers of signals, and an exit code."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        os.environ.clear()
        os.environ.update(env)
        body()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _torchrun(
    argv: list[str], *, env: Mapping[str, str], stdout: Any, stderr: Any, preexec_fn: Callable[[], None], **_: Any
) -> Fork:
    """In place of the entry's ``subprocess.Popen``: torchrun's own main function, in a fork."""
    from torch.distributed.run import main

    def before() -> None:
        preexec_fn()
        os.dup2(stdout.fileno(), 1)
        os.dup2(stderr.fileno(), 2)

    return Fork(lambda: main(argv[3:]), env, before)


def _rank(self: Any, args: tuple[str, ...], env: Mapping[str, str]) -> Fork:
    """In place of torchrun's ``SubprocessHandler._popen``: `python -u -m trainer FOLDER`, in a fork."""
    from trainer.__main__ import main

    assert args[1:4] == ("-u", "-m", "trainer"), args
    sys.argv = ["trainer", *args[4:]]

    def body() -> None:
        if HOLD_AT in env:
            _hold_at(int(env[HOLD_AT]))
        main()

    return Fork(body, env, os.setsid)


def _hold_at(step: int) -> None:
    """Lets the first rank stand still when it has logged ``step``: who is to be killed before its end waits for that."""
    from trainer.logs import StepLog

    write = StepLog.write

    def write_and_wait(self: StepLog, event: Mapping[str, Any]) -> None:
        write(self, event)
        if (event["type"], event["step"]) == ("train", step):
            time.sleep(PATIENCE)

    StepLog.write = write_and_wait  # type: ignore[method-assign]


def _entry(folder: str, env: Mapping[str, str]) -> None:
    from trainer.processes import entrypoint

    def before() -> None:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)

    _as_new(lambda: sys.exit(entrypoint.main(Path(folder))), env, before)


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print while they are imported
    gc.disable()
    for name in _IMPORTED:
        import_module(name)
    from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

    from trainer.processes import children

    gc.freeze()
    gc.enable()
    children.subprocess = SimpleNamespace(Popen=_torchrun, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    SubprocessHandler._popen = _rank
    for line in sys.stdin:
        order, _, what = line.partition(" ")
        if order == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(int(what), 0)[1])
        elif (answer := os.fork()) == 0:
            _entry(**json.loads(what))
        answers.write(f"{answer}\n")
        answers.flush()


if __name__ == "__main__":
    serve()
