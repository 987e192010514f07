"""The entry's part of ``checkpoint_to``: check it, restore the newest checkpoint before the ranks start, upload the end."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from launcher.errors import LauncherError, Stopped, UploadError, labelled
from launcher.runs.run_dir import OWN_RUNS, RunDir

from .children import secrets
from .waiting import Waiting

if TYPE_CHECKING:
    from launcher.storage import Mirrored

_LOOK: Final = 0.2  # seconds between two looks for a stop
_BRIEF: Final = 10.0  # seconds that the record's upload may take where the run was asked to stop


def has_own_runs() -> bool:
    """Whether each node has its own folder for runs, which no other node sees."""
    return bool(os.environ.get(OWN_RUNS))


@dataclass(frozen=True)
class Bucket:
    """A run's place in ``checkpoint_to``; ``first_rank``: this node's first rank, whose log gets the messages."""

    run: RunDir
    place: Mirrored
    first_rank: int
    is_stop_wanted: Callable[[], bool]

    @classmethod
    def of(cls, run: RunDir, first_rank: int, is_stop_wanted: Callable[[], bool]) -> Bucket | None:
        """None without ``checkpoint_to``, and for a node that shares the folder of the first one."""
        if run.node and not has_own_runs():
            return None
        text = run.experiment.read_text(encoding="utf-8")
        if not json.loads(text).get("checkpoint_to"):
            return None
        from launcher.experiment.files import read_env
        from launcher.experiment.schema import Experiment
        from launcher.storage import Mirrored

        place = Mirrored.of(Experiment.model_validate_json(text), run.name, {**read_env(Path()), **secrets()})
        return None if place is None else cls(run, place, first_rank, is_stop_wanted)

    def prepare(self) -> None:
        """Checks that the bucket can be written, and restores its newest checkpoint if that is newer than the folder's.

        Raises CredentialError, ExperimentError, UnreachableError if the server does not answer for minutes, and Stopped.
        """
        from launcher.storage import Lines
        from launcher.storage.checkpoints.restore import restore

        waiting = Waiting(self._look)

        def work() -> None:
            if not self.run.node:
                for notice in waiting(self.place.check):
                    self._say(labelled(notice))
            lines = Lines("downloaded", self._say)
            waiting(lambda: restore(self.run, self.place, lambda line: self._say(_line(line)), lines))

        self._unless_stopped(work)

    def keep(self, *, is_done: bool, is_brief: bool) -> None:
        """Uploads the run's files and, if it is done, its adapter.

        Raises UploadError if that fails or does not end within a few seconds after a request to stop;
        ``is_brief``: that was before.
        """
        aside = self.run.path / ".mirror"

        def work() -> None:
            from launcher.storage.checkpoints.aside import set_run_aside
            from launcher.storage.checkpoints.mirrored import ADAPTER, RUN

            if is_done and self.run.adapter.is_dir():
                uri = self.place.keep(ADAPTER, self.run.adapter).uri
                self.run.update_record(mirror={**(self.run.read_record().get("mirror") or {}), "adapter": uri})
            shutil.rmtree(aside, ignore_errors=True)
            self.place.keep(RUN, set_run_aside(self.run, aside / RUN))
            shutil.rmtree(aside, ignore_errors=True)

        thread = _Work(work)
        thread.start()
        until = None
        while thread.is_alive() and (until is None or time.monotonic() < until):
            thread.join(_LOOK)
            if until is None and (is_brief or self.is_stop_wanted()):
                until = time.monotonic() + _BRIEF
        if thread.is_alive():
            raise UploadError(f"{self.place.uri}: the upload did not end within {_BRIEF:.0f} s after the request to stop")
        if thread.error is not None:
            raise thread.error if isinstance(thread.error, LauncherError) else UploadError(f"{self.place.uri}: {thread.error}")

    def _look(self) -> None:
        if self.is_stop_wanted():
            raise Stopped("stopped before the first step")

    def _unless_stopped(self, work: Callable[[], None]) -> None:
        """Works in a thread, so that a stop works while a server is slow. Half-done work stays aside."""
        thread = _Work(work)
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK)
            self._look()
        if thread.error is not None:
            raise thread.error

    def _say(self, line: str) -> None:
        """Prints to this process's output and to the log that people follow."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        with self.run.rank_log(self.first_rank).open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


class _Work(threading.Thread):
    def __init__(self, work: Callable[[], None]):
        super().__init__(name="bucket", daemon=True)
        self._work, self.error = work, None
        self.error: Any

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


def _line(notice: str) -> str:
    from launcher.errors import Warned

    return labelled(notice) if isinstance(notice, Warned) else notice
