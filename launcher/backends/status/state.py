"""How runs are now: the values behind `launcher ps`, `status`, `why` and a run's end, on any backend."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import LauncherError
from ...health import Finding
from ...runs.finding import created
from ...runs.follow import Metric
from ...runs.known import Known, judged, newest_metric, pairs_a_step, progress, time_spent, trained_how
from ...runs.learned.quality import Quality, last_evaluation
from ...runs.learned.samples import Sample
from ...runs.learned.summary import Learned
from ...runs.run_dir import RunDir
from ...runs.usage import gpu_hours, gpus_of
from ...why import Explanation, explain
from .. import Run, Runs, Status
from .cluster import ClusterPart, health_of, status_on_cluster
from .finding import local_runs_and_containers, on_cluster
from .learned import answers

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class RunStatus:
    """One run in full. ``why`` explains the end of a run that is over and not done."""

    known: Known
    record: Mapping[str, Any] = field(repr=False)
    why: Explanation | None = None
    cluster: ClusterPart | None = None

    @property
    def attempts(self) -> int:
        return len(self.record.get("attempts") or [])

    @property
    def attempts_before(self) -> list[str]:
        """One line for each attempt in a pod before the last one: its number, how it ended, and where."""
        earlier = [one for one in (self.record.get("attempts") or [])[:-1] if one.get("pod")]
        return [f"{one['number']}  {one.get('state')} ({one.get('exit_code')})  {_where(one)}" for one in earlier]

    def json(self) -> dict[str, Any]:
        there: dict[str, Any] = {}
        if self.cluster is not None:
            pods = [asdict(node) for node in self.cluster.nodes]
            there = {"job": self.cluster.job, "kind": self.cluster.kind, "restarts": self.cluster.restarts, "pods": pods}
            there |= {} if self.cluster.reported is None else {"reported": self.cluster.reported}
        return {**self.known.json(), **there, "why": None if self.why is None else asdict(self.why), "record": self.record}


def _where(attempt: Mapping[str, Any]) -> str:
    host, sentence = attempt.get("host"), str(attempt.get("sentence") or "")
    where = f"{attempt['pod']}{f' on {host}' if host else ''}"
    return sentence if sentence.startswith(where) else f"{where}: {sentence}"


@dataclass(frozen=True)
class Explained:
    """Why a run waits, runs or failed, and what to do; ``unseen`` is what could not be read."""

    run: str
    backend: str
    state: str
    exit_code: int | None
    why: Explanation
    unseen: tuple[str, ...] = ()
    health: tuple[Finding, ...] = ()

    def json(self) -> dict[str, Any]:
        said = {"run": self.run, "backend": self.backend, "state": self.state, "exit_code": self.exit_code}
        health = [finding.json() for finding in self.health]
        return {**said, **asdict(self.why), "unseen": list(self.unseen), "health": health}


@dataclass(frozen=True)
class Ended:
    """How a run ended. ``words`` are the last ones of a run of which no rank printed anything; ``logs`` is where its logs are."""

    run: str
    status: Status
    place: str
    words: str
    logs: str
    why: Explanation | None = None
    learned: Learned | None = None
    health: tuple[Finding, ...] | None = None

    @property
    def code(self) -> int:
        """The exit code of the command that followed it."""
        return 1 if self.status.exit_code is None else self.status.exit_code

    def json(self) -> dict[str, Any]:
        return asdict(self)


def local_runs_known() -> list[Known]:
    """Every run of this machine, newest first."""
    return [known(run) for run in local_runs_and_containers()]


def run_status(where: Runs[Any], run: Any) -> RunStatus:
    """One run in full, here or on a cluster."""
    there = on_cluster(where, run)
    if there is not None:
        now, record, part = status_on_cluster(*there)
        return RunStatus(now, record, _why_over(where, run, Status(now.state, now.exit_code, now.sentence)), part)
    now = known(run)
    return RunStatus(now, where.record(run), _why_over(where, run, Status(now.state, now.exit_code, now.sentence)))


def explained(where: Runs[Run], run: Run) -> Explained:
    """Why ``run`` waits, runs or failed."""
    seen = where.evidence(run)
    health = health_of(where.record(run)) or ()
    return Explained(seen.run, seen.backend, seen.state, seen.exit_code, explain(seen), seen.unseen, health)


def ended(where: Runs[Run], run: Run) -> Ended:
    """How ``run``, which is over, ended, and what fits it next."""
    now, place = where.status(run), where.place(run)
    # A folder on a cluster's claim is not where a person looks.
    logs = f"{place}/logs" if isinstance(run, RunDir) else f"launcher logs {run.name}"
    if now.state == "done":
        record = where.record(run)
        steps, folder = where.next_steps(run, record), _loaded_from(run)
        learned = replace(
            Learned.of(record, place, folder, tuple(steps)), samples=_answers(where, run, record), report=_report(run)
        )
        return Ended(run.name, now, place, "", logs, learned=learned, health=health_of(record))
    return Ended(run.name, now, place, where.words(run), logs, why=_why_over(where, run, now))


def known(run: RunDir) -> Known:
    """The state of a run of this machine."""
    from ..choose import backend_of

    backend = backend_of(run)
    now = backend.status(run)  # first: it may complete the record
    record = run.read_record()
    pairs = pairs_a_step(record)
    last, evaluated = newest_metric(backend.tail(run), pairs), last_evaluation(run.steps)
    until = run.last_written() if now.is_over else datetime.now(UTC)
    spent = time_spent(record.get("attempts") or [], until)
    return Known(
        run=run.name,
        experiment=str(record.get("key", "-")),
        state=now.state,
        exit_code=now.exit_code,
        sentence=now.sentence,
        **progress(last, pairs, is_over=now.is_over),
        **judged(Quality.of(record, evaluated, last)),
        **trained_how(record, evaluated),
        created=created(run),
        ended=(record.get("outcome") or {}).get("ended"),
        folder=str(run.path),
        nodes=int(((record.get("experiment") or {}).get("launch") or {}).get("nodes") or 1),
        **spent,
        user=record.get("user"),
        gpu_hours=gpu_hours(gpus_of(record), spent["trained_seconds"]),
        health=health_of(record),
    )


def last_metric(run: RunDir) -> Metric | None:
    """The last training line of a run's metrics; without one the last line of any kind."""
    from ..choose import backend_of

    return newest_metric(backend_of(run).tail(run))


def _why_over(where: Runs[Run], run: Run, now: Status) -> Explanation | None:
    """Why a run ended that is over and not done, by its state ``now``."""
    if not now.is_over or now.state == "done":
        return None
    return explain(replace(where.evidence(run), state=now.state, exit_code=now.exit_code, sentence=now.sentence))


def _answers(where: Runs[Run], run: Run, record: Mapping[str, Any]) -> tuple[Sample, ...]:
    with suppress(LauncherError):  # `launcher learned` names what is wrong with the file
        return answers(where, run, record)
    return ()


def _report(run: Any) -> str | None:
    return str(run.report) if isinstance(run, RunDir) and run.report.is_file() else None


def _loaded_from(run: Any) -> str:
    """The adapter's folder for a person in this directory; that of a run on a cluster is downloaded first."""
    if not isinstance(run, RunDir):
        return str(run.name)
    here = Path.cwd()
    return str(run.adapter.relative_to(here) if run.adapter.is_relative_to(here) else run.adapter)
