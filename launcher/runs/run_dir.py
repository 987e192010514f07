"""A run's folder: its paths as properties, and reading and writing its record (run.json)."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..errors import LauncherError, UsageError
from ..redact import REDACTOR
from .whole import write_whole

LINKS: Final = ("logs", "logs_tensorboard", "run.json")  # beside runs/, to the run that was started last; see also publish
STAGING: Final = ".saving"  # in a run's folder: the checkpoint that is being written
OWN_RUNS: Final = "DPO_OWN_RUNS"  # set where each node of a run has a folder of its own, which no other node sees
ASIDE: Final = ".adapter"  # likewise the adapter
EXCEEDED: Final = "exceeded its memory limit (launch.memory)"
_UPDATES: Final = threading.Lock()  # the threads of a process update one record, each some fields


@dataclass(frozen=True)
class RunDir:
    """The folder of one run: ``<model_output_dir>/exp_<id>/<model>/runs/<run>``.

    All nodes of a run share the folder; ``record`` and ``entry_log`` are those of ``node``. Node 0's record is the run's.
    """

    path: Path
    node: int = 0

    @classmethod
    def of(cls, root: Path, model_output_dir: str, experiment_id: str, model: str, run: str, node: int = 0) -> RunDir:
        return cls(root / expanded(model_output_dir) / f"exp_{experiment_id}" / model / "runs" / run, node)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def shelf(self) -> Path:
        """The folder that holds ``runs/`` and links to the newest run and the newest adapter."""
        return self.path.parent.parent

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.json"

    @property
    def record(self) -> Path:
        return self.path / ("run.json" if self.node == 0 else f"node-{self.node}.json")

    @property
    def deepspeed(self) -> Path:
        return self.path / "deepspeed.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def steps(self) -> Path:
        return self.logs / "dpo_train_steps.jsonl"

    @property
    def entry_log(self) -> Path:
        return self.logs / ("entry.log" if self.node == 0 else f"entry-{self.node}.log")

    def rank_log(self, rank: int) -> Path:
        return self.logs / f"rank-{rank}.log"

    @property
    def tensorboard(self) -> Path:
        return self.path / "logs_tensorboard"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def start(self) -> Path:
        """The folder with a copy of the adapter that the training started from, whole or absent."""
        return self.path / "start"

    @property
    def evaluation(self) -> Path:
        """The folder with per-pair rewards and sample answers of the saved weights: JSONL files, each complete or absent."""
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        """The report that the run writes when it ends."""
        return self.path / "report.html"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def prompt(self) -> Path:
        """The run's system message and user template: {"system", "user", "place"}."""
        return self.data / "prompt.json"

    @property
    def source(self) -> Path:
        """The folder with copies of the data files as they were read."""
        return self.data / "source"

    @property
    def spreadsheet(self) -> Path:
        """The folder with the copy of the spreadsheet's cells."""
        return self.data / "read"

    def attempt(self, number: int) -> Path:
        return self.path / f"attempt-{number}"

    def exit_note(self, attempt: int, rank: int) -> Path:
        """The file in which a rank notes its end: {"code": int, "sentence": str, "time": float}."""
        return self.attempt(attempt) / f"rank-{rank}.exit.json"

    def memory_note(self, attempt: int) -> Path:
        """The file in which the entry of a pod notes that little memory is left: {"used": bytes, "limit": bytes}."""
        return self.attempt(attempt) / f"memory-{self.node}.json"

    def killed_silently(self, attempt: Mapping[str, Any]) -> str:
        """How a killed attempt of this node ended, from what it noted before."""
        try:
            note = self.memory_note(int(attempt["number"])).read_text(encoding="utf-8")
        except OSError:
            note = None
        return killed_silently(attempt, note)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first; they are renamed into place, so every folder with such a name is complete."""
        found = [p for p in self.path.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
        return sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")))

    def create(self, files: Mapping[Path, str], record: Mapping[str, Any]) -> None:
        """Creates the folder with ``files`` and the first record, whole or not at all.

        Other nodes wait until node 0 has created it. Raises UsageError if the run exists, and LauncherError if the folder cannot
        be created, for example because the disk is full or read-only.
        """
        if self.node:
            return self._join(record)
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            if self.path.is_dir():
                raise UsageError(f"run {self.name} exists: {self.path}") from None
            raise self._not_made(error) from error
        try:
            for folder in (self.logs, self.tensorboard, self.data):
                folder.mkdir()
            for file, text in files.items():
                file.parent.mkdir(exist_ok=True)
                write_whole(file, text)
            write_whole(self.record, _dumps(record))
            self.link()
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise self._not_made(error) from error

    def reopen(self, record: Mapping[str, Any]) -> None:
        """Records that the finished run starts again; its inputs and attempts are kept."""
        kept = ("created", "attempts", "experiment", "origin", "set", "user")
        self.update_record(**{name: value for name, value in record.items() if name not in kept}, attempts=self.closed_attempts())

    def closed_attempts(self) -> list[dict[str, Any]]:
        """The record's attempts, each with its end; a killed attempt ended when it last wrote to a log."""
        attempts = self.read_record().get("attempts", [])
        return [{**attempt, "ended": attempt.get("ended") or self._last_written(attempt.get("started"))} for attempt in attempts]

    def last_written(self) -> datetime | None:
        """When one of the run's logs was last written; None while there is no log."""
        times = [path.stat().st_mtime for path in self.logs.glob("*.log")]
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def _last_written(self, started: str | None) -> str | None:
        at = self.last_written()
        if at is None or started is None:
            return started
        return max(at, datetime.fromisoformat(started)).isoformat(timespec="seconds")

    def wait_for_first_node(self, patience: float = 60) -> None:
        """Waits until node 0 has created the run; raises UsageError if it does not in time."""
        deadline = time.monotonic() + patience
        while not RunDir(self.path).record.exists():
            if time.monotonic() > deadline:
                what = f"node {self.node}: run {self.path} not found after {patience:.0f} s"
                raise UsageError(f"{what}; start node 0 with the same --name, in a folder that all nodes share")
            time.sleep(0.2)

    def _join(self, record: Mapping[str, Any]) -> None:
        self.wait_for_first_node()
        if self.record.exists():
            raise UsageError(f"node {self.node} of run {self.name} exists: {self.record}")
        write_whole(self.record, _dumps(record))

    def _not_made(self, error: OSError) -> LauncherError:
        reason = (error.strerror or str(error)).lower()
        return LauncherError(f"cannot create the run's folder {self.path}: {reason} (model_output_dir sets where runs go)")

    def link(self) -> None:
        """Points the links to logs and record, beside ``runs/``, to this run."""
        for name in LINKS:
            self._link(name)

    def publish(self, aside: Path) -> None:
        """Renames ``aside``, a verified adapter, to ``adapter``, and points the link beside ``runs/`` to it."""
        aside.rename(self.adapter)
        with suppress(OSError):  # some network file systems have no links, and the run is complete without one
            self._link(self.adapter.name)

    def _link(self, name: str) -> None:
        """Points a link to this run, atomically."""
        link, target = self.shelf / name, Path("runs", self.name, name)
        if link.exists() and not link.is_symlink():
            return  # a user's own folder: never replaced
        aside = self.shelf / f".{name}.{os.getpid()}"
        aside.unlink(missing_ok=True)
        aside.symlink_to(target)
        aside.replace(link)

    def read_record(self) -> dict[str, Any]:
        """The record, empty if it does not exist; raises LauncherError if it is not JSON."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise LauncherError(f"{self.record}: expected JSON, found {error}") from error
        return record if isinstance(record, dict) else {}

    def update_record(self, **fields: Any) -> dict[str, Any]:
        """Sets top-level fields of the record, whole or not at all."""
        with _UPDATES:
            record = {**self.read_record(), **fields}
            write_whole(self.record, _dumps(record))
        return record


def killed_silently(attempt: Mapping[str, Any], memory_note: str | None) -> str:
    """The sentence for an attempt whose pod was killed before it could report. ``memory_note``: the text of its note."""
    host = attempt.get("host")
    where = f"{attempt.get('pod') or 'its pod'}{f' on {host}' if host else ''}"
    with suppress(ValueError, KeyError, TypeError):
        memory = json.loads(memory_note or "")
        used, limit = (f"{memory[key] / 2**30:.1f}" for key in ("used", "limit"))
        return f"{where} was killed without a message when it used {used} of {limit} GiB: it probably {EXCEEDED}"
    return f"{where} was killed without a message (SIGKILL), or lost with its node"


def find_runs(roots: list[Path]) -> list[RunDir]:
    """Every run below the given output folders (``model_output_dir``), newest first."""
    found = {p.parent for root in roots for p in root.glob("exp_*/*/runs/*/run.json")}
    return sorted((RunDir(p) for p in found), key=lambda r: r.experiment.stat().st_mtime_ns, reverse=True)


def find_checkpoint_runs(run: RunDir) -> list[RunDir]:
    """Other runs of the same experiment and model that hold a checkpoint, newest first."""
    return [
        other
        for other in find_runs([run.shelf.parent.parent])
        if other.shelf == run.shelf and other != run and other.checkpoints()
    ]


def _dumps(record: Mapping[str, Any]) -> str:
    return json.dumps(REDACTOR.value(record), indent=2, ensure_ascii=False, default=str) + "\n"


def expanded(path: str) -> Path:
    """A path of an experiment with ``~`` expanded; unchanged if the home directory is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
