"""The health of a run: computed again from its whole log and its record, on any backend; of many, as their records have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ...errors import LauncherError
from ...health import Facts, Finding, findings, read_findings
from ...runs.follow import Metric, Reader
from ...runs.known import Known
from ...runs.run_dir import RunDir
from .. import Run, Runs

_ONLY_THEN = ("first_loss", "degenerate_answers", "longer_answers")  # what no line of a log shows


@dataclass(frozen=True)
class RunHealth:
    """``lines``: how many lines of the log the rules have read; ``step``: the step of the last one."""

    run: str
    step: int
    lines: int
    findings: tuple[Finding, ...]

    def json(self) -> dict[str, Any]:
        return {**vars(self), "findings": [one.json() for one in self.findings]}


def health_of(where: Runs[Run], run: Run) -> RunHealth:
    """What the rules find in the log of ``run`` so far."""
    record = where.record(run)
    experiment = record.get("experiment") or {}
    events = cut(_events(where, run))
    found = findings(events, experiment.get("health") or {}, Facts.of(experiment, record.get("work") or {}))
    then = [one for one in read_findings(record) or () if one.rule in _ONLY_THEN]
    return RunHealth(run.name, events[-1]["step"] if events else 0, len(events), (*then, *found))


def with_health(caller: Mapping[str, str], runs: Sequence[Known], tell: Callable[[str], None]) -> list[Known]:
    """``runs`` of a cluster with what their health rules have found, by their records: two requests for each namespace, one for
    the reader pod and one for all records. Where a namespace's records cannot be read, its runs stay as they are: they are listed
    without a reader, too. ``tell`` is told once why, and what helps.
    """
    from ..kubernetes.api.cluster import Cluster
    from ..kubernetes.follow.archive import Archive
    from ..kubernetes.follow.run import RUNS_ROOT
    from ..kubernetes.follow.usage import records

    found: dict[tuple[str | None, str], Mapping[str, Any]] = {}
    unread: dict[str, LauncherError] = {}
    for namespace in dict.fromkeys(run.namespace for run in runs if run.namespace):
        folders = [PurePosixPath(run.folder) for run in runs if run.namespace == namespace]
        try:
            read = records(Archive(Cluster.connect(caller, namespace), namespace), folders)
            found |= {(namespace, str(RUNS_ROOT / folder)): record for folder, record in read.items()}
        except LauncherError as error:
            unread[namespace] = error
    if unread:
        tell(_unread(unread))
    return [_judged(run, found.get((run.namespace, run.folder), {})) for run in runs]


def _unread(errors: Mapping[str, LauncherError]) -> str:
    """``errors``: of the namespaces whose records could not be read; the first one's stands for all."""
    from ..kubernetes.follow.archive import NoReader

    (namespace, first), *others = errors.items()
    also = f" (nor HEALTH in {', '.join(name for name, _ in others)})" if others else ""
    if isinstance(first, NoReader):
        return f"no HEALTH: {first.reason}{also}; {first.hint}"
    return f"no HEALTH in namespace {namespace}{also}: {str(first).splitlines()[0]}"


def _judged(run: Known, record: Mapping[str, Any]) -> Known:
    said = read_findings(record)
    return run if said is None else replace(run, health=tuple(said))


def cut(events: Iterator[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the lines that a later attempt has computed again, from its checkpoint on."""
    kept: list[Mapping[str, Any]] = []
    for event in events:
        while event["type"] == "train" and kept and kept[-1]["step"] >= event["step"]:
            kept.pop()
        if event["type"] != "summary":
            kept.append(event)
    return kept


def _events(where: Runs[Run], run: Run) -> Iterator[Mapping[str, Any]]:
    """The lines of the metrics: from their file, or out of the first rank's log."""
    if isinstance(run, RunDir):
        lines = run.steps.read_text(encoding="utf-8", errors="replace") if run.steps.is_file() else ""
        pieces: Iterator[str] = iter([lines])
    else:
        pieces = where.read(run)
    reader = Reader()
    for event in (event for piece in pieces for event in reader.feed(piece)):
        if isinstance(event, Metric):
            yield event.values
