"""Runs whose Job is deleted, as their folders on the claim tell: which ones exist, and how each ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ....runs.run_dir import RunDir, killed_silently
from ... import Status
from .archive import Archive, run_of, said
from .run import ClusterRun
from .usage import records

KILLED: Final = 137
_STOPPED: Final = 143


@dataclass(frozen=True)
class Stored:
    """A run that has a folder, by its record."""

    run: ClusterRun
    record: Mapping[str, Any] = field(repr=False)

    @property
    def status(self) -> Status:
        attempts = self.record.get("attempts") or []
        is_silent = bool(attempts) and "pod" in attempts[-1] and attempts[-1].get("exit_code") is None
        killed = Status("failed", KILLED, killed_silently(attempts[-1], None)) if is_silent else None
        return said(self.record) or killed or lost()

    @property
    def ended(self) -> str | None:
        outcome, attempts = self.record.get("outcome") or {}, self.record.get("attempts") or []
        found = outcome.get("ended") or (attempts[-1].get("ended") if attempts else None)
        return None if found is None else str(found)


def stored_runs(archive: Archive) -> list[Stored]:
    """Every run with a record on the claim, newest first, from one command in the reader. Raises NoReader and ApiError."""
    found = [Stored(run_of(archive.namespace, folder, record), record) for folder, record in records(archive).items()]
    return sorted(found, key=lambda one: (one.run.created, one.run.name), reverse=True)


def ended_by_folder(archive: Archive, run: ClusterRun) -> Status:
    """How a run whose Job is deleted ended, by the records of its nodes; raises NoReader, ExecError and ApiError.

    The first node's record is the run's. If that node was killed before it could write its end, what it noted of its memory tells
    more, and the records of the others show that they only fell with it.
    """
    record = archive.record(run)
    if (status := said(record)) is not None and not _is_of_another(record):
        return status
    found = [one for node in range(run.nodes) if (one := _last(archive, run, node, record)) is not None]
    newest = max((int(one["number"]) for one in found), default=0)
    last = [one for one in found if int(one["number"]) == newest]
    own = [one for one in last if one.get("exit_code") not in (None, 0) and not one.get("is_consequence")]
    if own:
        first = min(own, key=lambda one: str(one.get("ended") or ""))
        return Status(str(first.get("state") or "failed"), int(first["exit_code"]), first.get("sentence"))
    return status or lost()


def last_pods(archive: Archive, run: ClusterRun) -> dict[int, str]:
    """Node of the run -> its pod in the last attempt, as far as their records tell; raises as ``ended_by_folder``."""
    record = archive.record(run)
    last = {node: one for node in range(run.nodes) if (one := _last(archive, run, node, record)) is not None}
    newest = max((int(one["number"]) for one in last.values()), default=0)
    return {node: str(one["pod"]) for node, one in last.items() if int(one["number"]) == newest and one.get("pod")}


def ended_before(record: Mapping[str, Any], resumed: str | None) -> str | None:
    """How the attempt before the one that runs ended; None without one, or if a person resumed the run in between.

    ``resumed``: when that was, UTC in ISO form.
    """
    earlier = [one for one in record.get("attempts") or [] if one.get("exit_code") is not None]
    if not earlier or not earlier[-1].get("pod"):
        return None
    last = earlier[-1]
    if resumed and last.get("ended") and datetime.fromisoformat(resumed) >= datetime.fromisoformat(str(last["ended"])):
        return None
    where = f"{last['pod']}{f' on {host}' if (host := last.get('host')) else ''}"
    if last["exit_code"] == _STOPPED:
        return f"{where} was stopped by the cluster: drained, preempted, or deleted by a person"
    sentence = str(last.get("sentence") or f"exit code {last['exit_code']}")
    return sentence if sentence.startswith(where) else f"{where}: {sentence}"


def _is_of_another(record: Mapping[str, Any]) -> bool:
    """Whether the first node only fell with another one, by its last attempt."""
    attempts = record.get("attempts") or []
    return bool(attempts and attempts[-1].get("is_consequence"))


def _last(archive: Archive, run: ClusterRun, node: int, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The last attempt of a node with how it ended, also if its pod was killed before it could write that."""
    if node:
        with suppress(ValueError):
            record = json.loads(archive.file(run, RunDir(Path(), node).record.name) or "{}")
    attempts: list[dict[str, Any]] = record.get("attempts") or []
    if not attempts:
        return None
    last = attempts[-1]
    if last.get("exit_code") is not None or "pod" not in last:
        return last
    note = archive.file(run, str(RunDir(Path(), node).memory_note(int(last["number"]))))
    return {**last, "exit_code": KILLED, "state": "failed", "sentence": killed_silently(last, note)}


def lost() -> Status:
    """The state of a run whose Job was deleted, and whose record has no end."""
    return Status("lost", KILLED, "its Job was deleted before it recorded how it ended")
