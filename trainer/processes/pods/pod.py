"""Tasks of a pod's entry: create the run's folder on the claim, and leave a termination message for the cluster.

DPO_CONFIG names the folder with what was rendered: ``experiment.json``, ``record.json``, perhaps ``deepspeed.json``.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from launcher.errors import LauncherError, UsageError
from launcher.job.topology import RENDEZVOUS
from launcher.redact import REDACTOR
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import write_whole

from ..bucket import has_own_runs

RECORD: Final = "record.json"
_MESSAGE: Final = 4096  # bytes that the kubelet keeps of a termination message
_TICK: Final = 0.2  # seconds between two looks for the folder that the first node makes
_LOOK: Final = 2.0  # seconds between two looks for the first node's newer attempt
_ALONE: Final = 15.0  # seconds in which a node that the first one left may find a better reason by itself


def arrive(run: RunDir, config: Path, is_stop_wanted: Callable[[], bool], patience: float = RENDEZVOUS) -> None:
    """Ensures that the run's folder exists with this node's record in it: the first node creates it, the others wait.

    An earlier attempt may have created it, completely or in part. Returns at once when a stop is wanted. Raises UsageError where
    another run has the name, LauncherError if the claim cannot be written or the first node does not arrive.
    """
    rendered = _read(config)
    try:
        if run.node == 0 or has_own_runs():
            _make(run, rendered)
        elif _wait(run, is_stop_wanted, patience) and not run.record.exists():
            run.update_record(**_begun(rendered))
    except OSError as error:
        raise LauncherError(_refused(run, error)) from error


class FirstNode:
    """Whether the first node has restarted while this one is in its attempt ``number``.

    If it is killed while the nodes meet, or before their ranks do, torchrun's store is lost: the restarted one waits for this
    node's torchrun, which takes the meeting for done, and this node's ranks wait for those of the first node.
    """

    def __init__(self, run: RunDir, number: int):
        self._run, self._number = run, number
        self._next, self._since = 0.0, 0.0

    def is_lost(self) -> bool:
        now = time.monotonic()
        if self._run.node == 0 or now < self._next:
            return False
        self._next = now + _LOOK
        with suppress(OSError):  # a volume may stumble
            if not self._since and self._is_ahead():
                self._since = now
        return bool(self._since) and now - self._since >= _ALONE

    def _is_ahead(self) -> bool:
        marks = self._run.path.glob("attempt-*/node-0")
        numbers = (mark.parent.name.removeprefix("attempt-") for mark in marks)
        return any(number.isdigit() and int(number) > self._number for number in numbers)


def is_done(run: RunDir) -> bool:
    """Whether an earlier attempt finished the run without the cluster noticing."""
    return (RunDir(run.path).read_record().get("outcome") or {}).get("state") == "done"


def last_words(code: int, sentence: str, state: str, *, is_consequence: bool = False) -> None:
    """Writes how this entry ends to DPO_TERMINATION_LOG, which the kubelet keeps with the pod: one line of JSON.

    ``launcher why`` recognises it by its keys: without it the kubelet keeps the end of the log, which may be anything.
    """
    sentence = REDACTOR.text(sentence)
    falls = {"is_consequence": True} if is_consequence else {}
    said = {"code": code, "state": state, **falls}
    while len(line := json.dumps({**said, "sentence": sentence}, ensure_ascii=False).encode()) > _MESSAGE:
        sentence = sentence[: len(sentence) - max(1, (len(line) - _MESSAGE) // 4)]
    _leave(line)


def itself() -> dict[str, str]:
    """The names of this pod and of its machine, for the record of an attempt; empty outside of a cluster."""
    names = {"pod": os.environ.get("DPO_POD", ""), "host": os.environ.get("DPO_HOST", "")}
    return {key: name for key, name in names.items() if name}


def take_back() -> None:
    """Empties the termination message: the entry continues."""
    _leave(b"")


def _leave(line: bytes) -> None:
    place = os.environ.get("DPO_TERMINATION_LOG")
    if not place:
        return
    try:
        Path(place).write_bytes(line)
    except OSError as error:
        sys.stderr.write(f"warning: cannot write {place}: {(error.strerror or str(error)).lower()}\n")


def _read(config: Path) -> dict[str, str]:
    """The rendered files: name -> content."""
    try:
        return {path.name: path.read_text(encoding="utf-8") for path in config.glob("*.json")}
    except OSError as error:
        raise LauncherError(f"cannot read {error.filename}: {(error.strerror or str(error)).lower()}") from error


def _make(run: RunDir, rendered: Mapping[str, str]) -> None:
    """Creates the folder, the record last: if it exists, all exists."""
    experiment = json.loads(rendered[run.experiment.name])
    if run.record.exists():
        if json.loads(run.experiment.read_text(encoding="utf-8")) != experiment:
            raise UsageError(f"run {run.name} exists already, with another experiment: {run.path}; take another --name")
        return
    for folder in (run.path, run.logs, run.tensorboard, run.data):
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in rendered.items():
        if name != RECORD:
            write_whole(run.path / name, text)
    for each in dict.fromkeys((RunDir(run.path), run)):  # the ranks of every node read the run's record
        each.update_record(**_begun(rendered), experiment=experiment)
    with suppress(OSError):  # some network file systems have no links; nothing of the run needs them
        run.link()


def _begun(rendered: Mapping[str, str]) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    record = json.loads(rendered[RECORD])
    return {**record, "created": now, "started": now, "attempts": [], "outcome": {"state": "starting"}}


def _wait(run: RunDir, is_stop_wanted: Callable[[], bool], patience: float) -> bool:
    """Waits for the first node's record; False if a stop is requested first."""
    first, deadline = RunDir(run.path).record, time.monotonic() + patience
    while not first.exists():
        if is_stop_wanted():
            return False
        if time.monotonic() > deadline:
            raise LauncherError(f"the first node did not create {run.path} within {patience:.0f} s: see the log of its pod")
        time.sleep(_TICK)
    return True


def _refused(run: RunDir, error: OSError) -> str:
    """What is wrong with the claim, and how to fix it."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{run.path}: {reason}: the claim with the runs is full; delete old runs, or enlarge the claim"
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.filename or run.path}: {reason}"
    nearest = next(path for path in (run.path, *run.path.parents) if _is_seen(path))
    found = nearest.stat()
    owner = f"it belongs to {found.st_uid}:{found.st_gid} with mode {stat.S_IMODE(found.st_mode):o}"
    what = f"{nearest} cannot be written by {os.geteuid()}:{os.getegid()} ({reason}; {owner})"
    if error.errno == errno.EROFS:
        return f"{what}: the claim with the runs is mounted read-only"
    gid = os.getegid()
    return f"{what}: make the volume writable for group {gid}, as `chgrp -R {gid} DIR && chmod -R g+rwX DIR` does on its host"


def _is_seen(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # below a folder that may not be entered
        return False
