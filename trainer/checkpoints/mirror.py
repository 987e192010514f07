"""Copies each complete checkpoint to ``checkpoint_to`` in the background, while the training continues.

A checkpoint is first linked aside, with copies of the run's files as at its step: what the training deletes or appends to
meanwhile does not matter. At most one is uploaded at a time; of those that wait the newest comes next, and the best one is kept.

.mirror/checkpoint-<step>/<files>       hard links
.mirror/checkpoint-<step>/run/<files>   the run's record, metrics and logs
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from launcher.errors import LauncherError, Warned
from launcher.runs.run_dir import RunDir
from launcher.storage import Mirrored
from launcher.storage.checkpoints.aside import MIRROR, set_folder_aside, set_run_aside
from launcher.storage.checkpoints.mirrored import RUN, START
from launcher.storage.progress import size

from ..output import notices, say

_FIRST: Final = 5.0  # seconds before the second try, doubled for each further one
_LONGEST: Final = 120.0
_PATIENCE: Final = 300.0  # seconds in which the end of a training waits for a server that fails


class Sender(Protocol):
    """Uploads the checkpoint of ``step`` in ``folder``, and removes older ones; returns bytes. Raises LauncherError."""

    def __call__(self, step: int, folder: Path, best: int | None, /) -> int: ...


class First:
    """The sender of the first node, which writes the manifests; ``notes``: of the other nodes' parts, see ``Mirrored.others``.

    ``start``: the folder with the run's copy of the adapter that it started from, if there is one; it goes before the first
    checkpoint, which cannot be resumed without it.
    """

    def __init__(
        self,
        mirrored: Mirrored,
        limit: int | None,
        notes: tuple[str, ...] = (),
        patience: float = 1800.0,
        start: Path | None = None,
    ):
        self._mirrored, self._limit, self._notes, self._patience, self._start = mirrored, limit, notes, patience, start
        self._is_told = False  # that old ones cannot be removed

    def __call__(self, step: int, folder: Path, best: int | None) -> int:
        if self._start is not None and self._start.is_dir():
            self._mirrored.keep(START, self._start)
        self._start = None
        others = self._mirrored.others(self._notes, self._patience) if self._notes else None
        sent = self._mirrored.send(step, folder, others=others)
        # An older attempt's copies of later steps, which could not be used, must not count in place of this one.
        try:
            self._mirrored.prune(self._limit, (step,) if best is None else (step, best))
        except LauncherError as error:
            self._warn_of_old(error)
        else:
            self._is_told = False
        return sent.bytes

    def _warn_of_old(self, error: LauncherError) -> None:
        """The checkpoint is uploaded: only space is lost, until the next one is uploaded and the old ones can be removed."""
        if not self._is_told:
            with suppress(OSError):  # the log's disk is full
                notices([Warned(f"older checkpoints in {self._mirrored.uri} cannot be removed: {str(error).splitlines()[0]}")])
        self._is_told = True


class Part:
    """The sender of another node: uploads what only this node has; ``note`` names that for the first node."""

    def __init__(self, mirrored: Mirrored, note: str):
        self._mirrored, self._note = mirrored, note

    def __call__(self, step: int, folder: Path, best: int | None) -> int:
        self._mirrored.send_part(step, folder, self._note)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Mirror:
    """A run's checkpoints in upload; the first rank has one, or the first rank of each node."""

    def __init__(
        self, run: RunDir, uri: str, send: Sender, *, first: float = _FIRST, asked: Callable[[], float | None] = lambda: None
    ):
        """``uri``: the run's place; ``first``: seconds before the second try; ``asked``: by when this process should have ended,
        on the monotonic clock, None if nobody has asked for a stop.
        """
        self._run, self._uri, self._send, self._first, self._asked = run, uri, send, first, asked
        self._waiting: dict[int, int | None] = {}  # step -> the best step at that time
        self._busy: int | None = None
        self._offered: int | None = None
        self._sent: int | None = (run.read_record().get("mirror") or {}).get("step")
        self._failed: str | None = None
        self._changed = threading.Condition()
        self._noting = threading.Lock()  # a note of older values never comes after one of newer ones
        self._closing = False
        self._is_last = False  # the training is over: it waits for no long pause
        shutil.rmtree(run.path / MIRROR, ignore_errors=True)
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return self._busy is not None or bool(self._waiting)

    def offer(self, checkpoint: Path, best: int | None = None, names: Collection[str] | None = None) -> None:
        """Queues the ``checkpoint`` and returns at once; it replaces one that waits, unless that is the ``best``.

        ``names``: only these files of the checkpoint, and none of the run's.
        """
        step = int(checkpoint.name.removeprefix("checkpoint-"))
        try:
            self._set_aside(checkpoint, names)
        except OSError as error:
            self._warn(step, f"cannot be set aside: {error.strerror or error}")
            return
        with self._changed:
            self._drop(old for old in list(self._waiting) if old not in (best, self._busy))
            self._waiting[step], self._offered = best, step
            failed = self._failed
            self._changed.notify_all()
        if failed is not None:
            self._warn(step, failed)
        self._note()

    def finish(self, until: float | None = None) -> bool:
        """Waits like ``wait``, after the last checkpoint. Warns about what is not uploaded."""
        is_done = self.wait(until)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if is_done:
            shutil.rmtree(self._run.path / MIRROR, ignore_errors=True)
        elif self._offered is not None:
            self._warn(self._offered, self._failed or "the time for it is over")
        return is_done

    def wait(self, until: float | None = None) -> bool:
        """Waits until everything is uploaded, and returns whether it is.

        ``until``, on the monotonic clock, ends the waiting. A server that fails ends it after five minutes: the run's folder has
        the checkpoints.
        """
        latest = time.monotonic() + _PATIENCE
        with self._changed:
            self._is_last = True
            self._changed.notify_all()
            while self.is_busy:
                now = time.monotonic()
                ends = [end for end in (until, self._asked()) if end is not None]
                if (ends and now >= min(ends)) or (self._failed is not None and now >= latest):
                    break
                if self._failed is None:
                    latest = now + _PATIENCE
                self._changed.wait(0.2)
            return not self.is_busy

    def _drop(self, steps: Iterable[int]) -> None:
        for step in steps:
            del self._waiting[step]
            shutil.rmtree(self._aside(step), ignore_errors=True)

    def _work(self) -> None:
        pause = self._first
        while (step := self._next()) is not None:
            began = time.monotonic()
            try:
                sent = self._send(step, self._aside(step), self._waiting_best(step))
            except Exception as error:  # nothing that happens here may end the training
                self._fail(step, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or self._is_last, pause)
                    self._is_last = False
                pause = min(_LONGEST, 2 * pause)
                continue
            pause = self._first
            self._succeed(step)
            with suppress(OSError):  # the log's disk is full
                say(f"checkpoint-{step} is in {self._uri} ({size(sent)} in {time.monotonic() - began:.1f} s)")

    def _next(self) -> int | None:
        """The next step to upload; None when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                return None
            self._busy = max(self._waiting)
            return self._busy

    def _waiting_best(self, step: int) -> int | None:
        with self._changed:
            return self._waiting.get(step)

    def _fail(self, step: int, error: Exception) -> None:
        reason = str(error).splitlines()[0] if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
        with self._changed:
            is_new, self._failed, self._busy = self._failed is None, reason, None
            newest = max(self._waiting)
            if step != newest and step != self._waiting[newest]:
                self._drop([step])
            self._changed.notify_all()
        if is_new:
            self._warn(step, reason)
        self._note()

    def _succeed(self, step: int) -> None:
        with self._changed:
            self._waiting.pop(step, None)
            self._sent, self._failed = max(step, self._sent or 0), None
        self._note()
        shutil.rmtree(self._aside(step), ignore_errors=True)
        with self._changed:
            self._busy = None
            self._changed.notify_all()

    def _warn(self, step: int, reason: str) -> None:
        if self._sent is None:
            behind = f"no checkpoint is in {self._uri} yet"
        else:
            behind = f"the newest checkpoint in {self._uri} is checkpoint-{self._sent}, {step - self._sent} steps old"
        with suppress(OSError):  # the log's disk is full
            notices([Warned(f"{behind}; checkpoint-{step}: {reason}")])

    def _note(self) -> None:
        """Writes into the run's record what ``status`` shows."""
        with self._noting:
            before = self._run.read_record().get("mirror") or {}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            at = before.get("at") if self._sent == before.get("step") else now
            mirror = {"id": before.get("id"), "to": self._uri, "step": self._sent, "at": at, "offered": self._offered}
            with suppress(OSError, LauncherError):  # a disk that is full stops the training elsewhere, with its own words
                self._run.update_record(mirror={**mirror, "failed": self._failed})

    def _aside(self, step: int) -> Path:
        return self._run.path / MIRROR / f"checkpoint-{step}"

    def _set_aside(self, checkpoint: Path, names: Collection[str] | None) -> None:
        aside = self._run.path / MIRROR / checkpoint.name
        shutil.rmtree(aside, ignore_errors=True)
        set_folder_aside(checkpoint, aside, names)
        if names is None:
            set_run_aside(self._run, aside / RUN)


def begin(run: RunDir, send: Sender, uri: str, asked: Callable[[], float | None] = lambda: None) -> Mirror:
    """The mirror of a run, whose record names it from now on: see ``launcher.storage.checkpoints.restore``."""
    before = run.read_record().get("mirror") or {}
    run.update_record(mirror={"step": None, "id": os.urandom(8).hex(), **before, "to": uri})
    return Mirror(run, uri, send, asked=asked)
