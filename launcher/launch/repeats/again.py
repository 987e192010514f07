"""Repeats a run from its record: same experiment, data, image, code and packages. Anything that differs is named, and nothing
starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...errors import UsageError, Warned
from ...runs.made_of import Change, NotRepeatable, differences, unnamed
from .inputs import changes_of_data, changes_of_machine, gpus_as_recorded, image_of_run, inputs_of_run, kept_here, kept_there

if TYPE_CHECKING:
    from ...backends import Runs
    from ...backends.choose import AnyBackend
    from ...backends.kubernetes.backend import Kubernetes
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...data.pairs import Source
    from ...experiment.schema import Experiment
    from ...job.resume import Recorded
    from ...runs.learned.losses import Losses
    from ..cluster.submission import Listener, Submission
    from ..start import Prepared


@dataclass(frozen=True)
class Compared:
    """The losses of a run and of its repetition. ``why``: what differs between their records, if the losses differ."""

    run: str
    other: str
    losses: Losses
    why: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        return {"run": self.run, "other": self.other, **self.losses.json(), "differences": list(self.why)}


def compared(name: str, other: str, *, cluster: bool, namespace: str | None) -> Compared:
    """Compares the losses of two runs, here or on a cluster. Raises UsageError for an unknown run."""
    from ...backends.status.finding import find

    return compared_runs(*find(name, cluster=cluster, namespace=namespace), *find(other, cluster=cluster, namespace=namespace))


def compared_runs(where: Runs[Any], run: Any, where_other: Runs[Any], other: Any) -> Compared:
    from ...runs.learned.losses import compare_losses

    losses = compare_losses(_steps(where, run), _steps(where_other, other))
    why = [] if losses.are_equal else differences(where.record(run), where_other.record(other))
    return Compared(run.name, other.name, losses, tuple(why))


def _steps(where: Runs[Any], run: Any) -> list[str]:
    """All lines of a run's metrics."""
    from ...backends.status.finding import on_cluster

    there = on_cluster(where, run)
    if there is not None:
        kubernetes, on = there
        return (kubernetes.archive(on).file(on, "logs/dpo_train_steps.jsonl") or "").splitlines()
    return run.steps.read_text(encoding="utf-8").splitlines() if run.steps.is_file() else []


@dataclass(frozen=True)
class Repetition:
    """A run to repeat. ``there``: backend and run on a cluster, None for a run of this machine."""

    where: Runs[Any]
    run: Any
    recorded: Recorded
    anyway: bool
    there: tuple[Kubernetes, ClusterRun] | None

    def prepare(self, name: str | None, say: Callable[[str], None]) -> Prepared:
        """The new run on this machine. Raises NotRepeatable, and what ``start.prepare`` raises."""
        from ...backends.choose import backend_of
        from ..start import prepare

        where = backend_of(self.run)
        changes = list(changes_of_machine(self.recorded.record, where))
        image, wrong = image_of_run(self.recorded.record, where)
        experiment, moved, found = inputs_of_run(self.recorded, where.cwd, partial(kept_here, self.run, where.cwd))
        changes += [*wrong, *found]
        if not self.anyway:
            self._check(changes)
        rendered = self._rendered(where, experiment, name, image)
        data_of = self.run.name if experiment.spreadsheet_id is not None and _has_copy(self.run) else None
        ready = prepare(rendered, data_of, say)
        known = {change.what for change in changes}
        late = [one for one in changes_of_data(self.recorded, ready.sources) if one.what not in known]
        if not self.anyway:
            self._check(late)
        warned = [Warned(one.sentence) for one in (*changes, *late)]
        warned += unnamed(self.recorded.record, ("code", "packages", "model") if where.name == "host" else ("model",))
        facts = MappingProxyType({**ready.facts, "repeats": self.run.name})
        return replace(ready, facts=facts, notices=(*moved, *ready.notices, *warned))

    def submit(self, name: str | None, *, follows: bool, listener: Listener) -> Submission:
        """The new run on the cluster. Raises NotRepeatable before contacting it, and what ``submit.submit`` raises."""
        from ...job.image import Image
        from ..cluster.submit import submit_job

        assert self.there is not None, "a run of a cluster"
        on, run = self.there
        experiment, moved, changes = inputs_of_run(self.recorded, Path.cwd(), partial(kept_there, on.archive(run), run))
        if not self.anyway:
            self._check(changes)
        unknown = unnamed(self.recorded.record, ("model", "image"))
        listener.notices([*moved, *(Warned(one.sentence) for one in changes), *unknown])
        job = replace(self._named(experiment, name).job(_gpus_of(experiment)), notes=self._notes())
        image = self.recorded.record.get("image")

        def check(sources: Sequence[Source]) -> None:
            late = list(changes_of_data(self.recorded, sources))
            if late and not self.anyway:
                self._check(late)

        return submit_job(
            job,
            _loaded(self.recorded, experiment),
            image=None if image is None else Image(str(image), "cuda" if job.gpus else "cpu"),
            check_data=check,
            data_of=None if experiment.spreadsheet_id is None else self.run.name,
            anyway=self.anyway,
            follows=follows,
            listener=listener,
        )

    def _check(self, changes: Sequence[Change]) -> None:
        if changes:
            raise NotRepeatable(self.run.name, changes)

    def _named(self, experiment: Experiment, name: str | None) -> Recorded:
        from ...runs.names import check_run_name

        found = _free_name(self.run.name, self.there) if name is None else check_run_name(name)
        return replace(self.recorded, run=found, experiment=experiment)

    def _notes(self) -> Mapping[str, Any]:
        """Entries of the new run's record: what it must be made of, which the trainer checks, too."""
        record = self.recorded.record
        again = {"of": self.run.name, "anyway": self.anyway, "data": record.get("data"), "model": record.get("model")}
        if record.get("adapter", {}).get("sha256"):
            again["adapter"] = {key: record["adapter"].get(key) for key in ("name", "sha256", "revision")}
        day = {"template_date": record["template_date"]} if record.get("template_date") else {}
        given = {"set": record["set"]} if record.get("set") else {}
        return MappingProxyType({"again": again, **day, **given})

    def _rendered(self, where: AnyBackend, experiment: Experiment, name: str | None, image: str | None) -> Any:
        from ...backends.host import gpus_there
        from ...experiment.files import read_env
        from ...job.image import Image
        from ..rendered import Rendered

        there = gpus_there(read_env(Path.cwd()))
        job = self._named(experiment, name).job(gpus_as_recorded(self.recorded, there))
        job = replace(job, notes=self._notes())
        spec: Any = where.render(job)
        if image is not None:
            spec = replace(spec, image=Image(image, spec.image.variant))
        return Rendered(where, job, _loaded(self.recorded, experiment), spec)


def repetition(name: str, *, anyway: bool, cluster: bool, namespace: str | None) -> Repetition:
    """The run ``name``, to be repeated.

    Raises UsageError for a run that is not over or has read no data, and LauncherError if its record cannot be read.
    """
    from ...backends.status.finding import find, on_cluster
    from ...job.resume import Recorded

    where, run = find(name, cluster=cluster, namespace=namespace)
    now = where.status(run)
    if not now.is_over:
        raise UsageError(f"{run.name} is {now.state}: repeat it after its end")
    there = on_cluster(where, run)
    recorded = Recorded.of(run) if there is None else _recorded_there(*there)
    if not recorded.record.get("data"):
        raise UsageError(f"{run.name} ended before it read its data: its record is incomplete")
    return Repetition(where, run, recorded, anyway, there)


def _recorded_there(where: Kubernetes, run: ClusterRun) -> Recorded:
    """Reads the run's folder on its claim; paths of its inputs are those of this machine again."""
    from .rebuilt import stored_start

    found = stored_start(where.archive(run), run)
    return replace(found, experiment=found.experiment.model_copy(update=found.record.get("inputs") or {}))


def _gpus_of(experiment: Experiment) -> int:
    return 1 if experiment.launch.gpus == "auto" else experiment.launch.gpus


def _has_copy(run: Any) -> bool:
    from ...data.tables.sheets.spreadsheet import has_copy

    return has_copy(run.spreadsheet)


def _loaded(recorded: Recorded, experiment: Experiment) -> Any:
    from ...experiment.loaded import Loaded

    return Loaded(experiment, recorded.key, Path(str(recorded.record.get("origin") or "its record")), {})


def _free_name(name: str, there: tuple[Kubernetes, ClusterRun] | None) -> str:
    """``<run>-again``, with a number if that exists."""
    from ...backends.status.finding import listed_on, local_runs
    from ...runs.names import check_run_name

    if there is None:
        taken = {run.name for run in local_runs()}
    else:
        where, run = there
        taken = {one.run.name for one in listed_on(where, [run.namespace], with_pods=False)}
    wanted = (f"{name}-again" + (f"-{number}" if number > 1 else "") for number in range(1, len(taken) + 2))
    return check_run_name(next(one for one in wanted if one not in taken))
