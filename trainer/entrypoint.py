"""What a container or a host process runs: torchrun with the right topology, its signals, and the run's exit code.

    python -m trainer.entrypoint RUN_FOLDER

Environment: DPO_NNODES and DPO_NPROC (nodes, and ranks to start on each, 1), on more than one node NODE_RANK (or
JOB_COMPLETION_INDEX), MASTER_ADDR and MASTER_PORT; DPO_GRACE (seconds between a request to stop and the end by force, 120),
DPO_SECRETS (a folder whose files are secrets by their names: only the ranks get them). Each rank leaves
``attempt-<n>/rank-<r>.exit.json``, as torchrun turns every code into 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from launcher.errors import UsageError
from launcher.processes import Process, kill
from launcher.redact import learn_environment
from launcher.run_dir import RunDir
from launcher.topology import Node, torchrun

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; ``can_split``: memory ran out, and smaller micro-batches may help."""

    state: str
    code: int
    sentence: str
    can_split: bool = False


def main(folder: Path) -> int:
    """Trains, in more attempts where memory runs out; returns the exit code, and nothing that it started is alive then."""
    nodes, nproc = int(os.environ.get("DPO_NNODES", "1")), int(os.environ.get("DPO_NPROC", "1"))
    try:
        node = Node.of(os.environ, nodes)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    learn_environment()
    run = RunDir(folder, node.rank)
    for path in (run.logs, run.tensorboard, run.data):
        path.mkdir(parents=True, exist_ok=True)
    children = Children(int(os.environ.get("DPO_GRACE", "120")))
    children.listen()
    splits = 0
    while True:
        ending = _attempt(run, nodes, nproc, node, children, splits)
        if not ending.can_split or children.stop_wanted:
            return ending.code
        splits += 1


def _attempt(run: RunDir, nodes: int, nproc: int, node: Node, children: Children, splits: int) -> Ending:
    number = next_attempt(run)
    write_start(run, number)
    begin = run.entry_log.stat().st_size if run.entry_log.exists() else 0
    env = {"DPO_ATTEMPT": str(number), "DPO_SPLITS": str(splits)}
    code = children.run(_torchrun(run, nodes, nproc, node), log=run.entry_log, env=env)
    ending = judge(exit_notes(run, number), nproc, code, children, _since(run.entry_log, begin))
    write_end(run, ending)
    sys.stdout.write(f"{run.name}: attempt {number}: {ending.state}, exit {ending.code}: {ending.sentence}\n")
    sys.stdout.flush()
    return ending


def next_attempt(run: RunDir) -> int:
    """The number of this node's next attempt, counted from 1, whose folder is there then.

    The nodes of a run share the folder, and each makes its mark in it: the first one that comes makes the folder.
    """
    names = [path.name.removeprefix("attempt-") for path in run.path.glob("attempt-*")]
    taken = [int(name) for name in names if name.isdigit() and (run.attempt(int(name)) / f"node-{run.node}").exists()]
    number = max(taken, default=0) + 1
    run.attempt(number).mkdir(exist_ok=True)
    (run.attempt(number) / f"node-{run.node}").touch()
    return number


@dataclass
class Children:
    """torchrun and all below it: told once to stop, and gone when ``run`` returns."""

    grace: int
    torchrun: subprocess.Popen[bytes] | None = field(default=None, init=False)
    stop_wanted: bool = field(default=False, init=False)
    was_forced: bool = field(default=False, init=False)
    _is_told: bool = field(default=False, init=False)

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._force)
        # Orphans of a torchrun that was killed become this process's children, and are found as such.
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self, argv: list[str], *, log: Path, env: Mapping[str, str]) -> int:
        """torchrun's own exit code, negative for a signal."""
        if self.stop_wanted:
            return 0
        # torchrun's words only: the ranks have logs of their own. Its clock must run out before this one's.
        patience = max(1, self.grace - 30, self.grace * 3 // 4)
        # DeepSpeed looks for ninja, which is installed beside Python, on the path.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        own = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(patience), "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
        self.torchrun, self._is_told = None, False
        with log.open("ab") as out:
            self.torchrun = subprocess.Popen(
                argv,
                env={**own, **os.environ, **secrets(), "PATH": path, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=_die_with(os.getpid()),
            )
        if self.stop_wanted:
            self._tell()
        code = self.torchrun.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        kill(None, os.getpid())
        return code

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


def secrets() -> dict[str, str]:
    """The secrets that a container has as files, by name; none on a host, where the environment has them."""
    folder = os.environ.get("DPO_SECRETS")
    # A mounted Kubernetes Secret has hidden folders beside its files.
    files = [path for path in Path(folder).iterdir() if not path.name.startswith(".")] if folder else []
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def _die_with(parent: int) -> Any:
    """For the child, between fork and exec: a parent that is killed must not leave it behind."""

    def ask_the_kernel() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before it was asked for
            os._exit(143)

    return ask_the_kernel


def _torchrun(run: RunDir, nodes: int, nproc: int, node: Node) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = torchrun(nodes, nproc, node, port)
    # Without a folder for its logs torchrun makes one under /tmp and leaves it there.
    return [sys.executable, "-m", "torch.distributed.run", *options, f"--log-dir={os.devnull}", "-m", "trainer", str(run.path)]


def exit_notes(run: RunDir, attempt: int) -> list[dict[str, Any]]:
    """The notes {"code", "sentence", "time"} of the ranks that left one, earliest first."""
    notes = []
    for path in run.attempt(attempt).glob("rank-*.exit.json"):
        with suppress(ValueError):  # cut off while it was written
            notes.append(json.loads(path.read_text(encoding="utf-8")))
    return sorted(notes, key=lambda note: note["time"])


def judge(notes: list[dict[str, Any]], nproc: int, returned: int, children: Children, words: str) -> Ending:
    """How the attempt ended, from the ranks' notes, else from torchrun's code and words.

    The earliest note counts; those of ranks that only ended because another had ended come after all else.
    """
    failed = [note for note in notes if note["code"] != 0]
    first = next((note for note in failed if not note.get("is_consequence")), None)
    if first is not None:
        state = "stopped" if first["code"] == 143 else "failed"
        return Ending(state, int(first["code"]), str(first["sentence"]), bool(first.get("can_split")))
    if notes and not failed and (returned == 0 or len(notes) >= nproc):
        return Ending("done", 0, str(notes[0]["sentence"]))
    if children.was_forced:
        return Ending("failed", 137, f"asked to stop, it did not end within {children.grace} s and was killed")
    killed = returned == -signal.SIGKILL or re.search(r"exitcode\s*:\s*-9\b|Signal 9 \(SIGKILL\)", words)
    if killed and children.stop_wanted:
        return Ending("failed", 137, "asked to stop, a rank was killed before it had written a checkpoint")
    if killed:
        return Ending("failed", 137, "a rank was killed (SIGKILL): often the machine's memory ran out; `dmesg` says so")
    if returned == -signal.SIGBUS or re.search(r"exitcode\s*:\s*-7\b|Signal 7 \(SIGBUS\)", words):
        return Ending("failed", 135, "a bus error: shared memory (/dev/shm) ran out; raise launch.shm_size")
    if failed:
        return Ending("failed", int(failed[0]["code"]), str(failed[0]["sentence"]))
    if children.stop_wanted:
        return Ending("stopped", 143, "stopped before the training began")
    if returned == 0:
        return Ending("failed", 1, "torchrun ended without an error, but no rank has said how it ended")
    return Ending("failed", returned if returned > 0 else 128 - returned, "torchrun failed; logs/entry.log has its words")


def _since(log: Path, begin: int) -> str:
    if not log.exists():  # asked to stop before torchrun was started
        return ""
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode("utf-8", "replace")


def write_start(run: RunDir, number: int) -> None:
    """Enters this process and its attempt ``number`` into the run's record."""
    process = Process.of(os.getpid())
    assert process is not None, "this process lives"
    attempts = [*run.read_record().get("attempts", []), {"number": number, "started": _now(), "ended": None, "exit_code": None}]
    run.update_record(process=process.record(), attempts=attempts, outcome={"state": "running"})


def write_end(run: RunDir, ending: Ending) -> None:
    """Enters how the newest attempt ended."""
    ended = _now()
    *earlier, last = run.read_record()["attempts"]
    run.update_record(
        attempts=[*earlier, {**last, "ended": ended, "exit_code": ending.code}],
        outcome={"state": ending.state, "exit_code": ending.code, "sentence": ending.sentence, "ended": ended},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m trainer.entrypoint RUN_FOLDER")
    sys.exit(main(Path(sys.argv[1])))
