"""A sweep on a cluster: one Job per point, scheduled by the cluster or by Kueue; or with ``--parallel`` one Job with a pod per
point.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ...errors import UsageError
from ..cluster.submission import Listener, Submission
from ..cluster.submit import check_here, submit
from ..cluster.submitting import Submitting, Together
from ..rendered import Choice, cluster_job
from .grid import Point, Sweep, load_points

if TYPE_CHECKING:
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...backends.kubernetes.render.placement import Local
    from ...backends.kubernetes.render.spec import KubernetesSpec
    from ...experiment.loaded import Loaded


def submit_points(
    sweep: Sweep, *, registry: str | None, data_of: str | None, anyway: bool, listener: Listener
) -> Iterator[tuple[Point, Submission | None]]:
    """Creates the run of each point; None for one that exists. All points are checked before the first is created.

    A spreadsheet is read once. Raises what ``load_points`` and ``submit`` raise, and UsageError for a name that is taken.
    """
    loaded = load_points(sweep)
    existing = _existing(sweep, loaded[0].experiment.launch.kubernetes.namespace)
    with _spreadsheet(loaded, data_of, listener) as copy:
        files = _check(sweep, loaded, data_of, copy)
        for point in sweep.points:
            if sweep.run(point) in existing:
                yield point, None
                continue
            listener.say(f"[{point.number}/{len(sweep.points)}] {sweep.run(point)}: {point}")
            done = submit(
                sweep.choice_of(point),
                registry=registry,
                data_of=data_of,
                anyway=anyway,
                listener=listener,
                notes=sweep.note(point),
                copy=copy,
                local=files[point.number],
            )
            yield point, done


def submit_in_one_job(
    sweep: Sweep, parallel: int, *, registry: str | None, anyway: bool, listener: Listener
) -> Submission | None:
    """Creates one Job for all points, with ``parallel`` running at the same time; None if it exists.

    Raises what ``load_points``, ``submit`` and ``render.together`` raise, and UsageError for a name that is taken.
    """
    loaded = load_points(sweep)
    existing = _existing(sweep, loaded[0].experiment.launch.kubernetes.namespace)
    if existing and len(existing) == len(sweep.points):
        return None
    if existing:
        raise UsageError(f"--name {sweep.name}: some of its runs exist ({', '.join(sorted(existing))}); choose another --name")
    choices = [(sweep.choice_of(point), sweep.note(point)) for point in sweep.points]
    _check(sweep, loaded, None, None)
    return _submit_together(choices, sweep.name, parallel, registry=registry, anyway=anyway, listener=listener)


def rendered_in_one_job(sweep: Sweep, parallel: int) -> KubernetesSpec:
    """What ``submit_in_one_job`` would create, without contacting the cluster. Raises what ``render.together`` raises."""
    from ...backends.kubernetes.render.together import together
    from ..rendered import rendered_for_cluster

    found = [rendered_for_cluster(sweep.choice_of(point), sweep.note(point)) for point in sweep.points]
    return together(sweep.name, parallel, [one.job for one in found], [cast("KubernetesSpec", one.spec) for one in found])


def _submit_together(
    choices: Sequence[tuple[Choice, Mapping[str, Any]]],
    name: str,
    parallel: int,
    *,
    registry: str | None,
    anyway: bool,
    listener: Listener,
) -> Submission:
    """Creates one Job for the sweep ``name``, with a pod for each choice and its notes for the record."""
    from ...experiment.files import read_env

    caller, points = read_env(Path.cwd()), list[Any]()
    for choice, notes in choices:
        job, loaded = cluster_job(choice.experiment, choice.overrides, choice.run_name, choice.file)
        points.append((replace(job, notes={**job.notes, **notes}), loaded))
    whole = Together(name, parallel, tuple(points))
    job, loaded = points[0]
    one = Submitting(job, loaded, caller, registry, anyway, False, is_named=True, told=listener, together=whole)
    return one.submit(None)


def _check(sweep: Sweep, loaded: Sequence[Loaded], data_of: str | None, copy: Path | None) -> dict[int, Local]:
    """Point number -> this machine's files that it needs. Checked and hashed once for points that differ only in
    hyperparameters.
    """
    seen: dict[str, Local] = {}
    found: dict[int, Local] = {}
    for point, one in zip(sweep.points, loaded, strict=True):
        inputs = one.experiment.model_dump_json(exclude={"hyperparameters", "health", "topic"})
        if inputs not in seen:
            seen[inputs] = check_here(sweep.choice_of(point), data_of, copy)
        found[point.number] = seen[inputs]
    return found


def _existing(sweep: Sweep, namespace: str | None) -> Mapping[str, ClusterRun]:
    """The sweep's runs on the cluster by name. Raises UsageError if one has other settings."""
    from ...backends.status.finding import cluster_of, listed_on
    from ...experiment.files import read_env

    points = {sweep.run(point): point for point in sweep.points}
    where, namespaces = cluster_of(read_env(Path.cwd()), namespace)
    runs = [one.run for one in listed_on(where, namespaces, with_pods=False) if one.run.name in points]
    for run in sorted(runs, key=lambda run: run.point or 0):
        if run.sweep != sweep.name or run.settings != points[run.name].settings:
            was = ", ".join(run.settings) or "no point of a sweep"
            raise UsageError(f"--name {sweep.name}: run {run.name} exists with other settings ({was}); choose another --name")
    return {run.name: run for run in runs}


@contextmanager
def _spreadsheet(loaded: Sequence[Loaded], data_of: str | None, listener: Listener) -> Iterator[Path | None]:
    """A folder with the cells of the spreadsheet that all points read, read now; None if they do not share one."""
    from ...data.tables.reading import Reading
    from ...data.tables.rows import read_tables, wanted_worksheets
    from ...data.tables.sheets.spreadsheet import write_copy
    from ...experiment.files import read_env

    experiments = [one.experiment for one in loaded]
    sheets = {(e.spreadsheet_id, *sorted(wanted_worksheets(e).items())) for e in experiments}
    if data_of is not None or experiments[0].spreadsheet_id is None or len(sheets) > 1:
        yield None
        return
    read = read_tables(experiments[0], Reading(Path.cwd(), read_env(Path.cwd()), say=listener.say)).spreadsheet
    assert read is not None, "the tables are worksheets"
    with tempfile.TemporaryDirectory() as folder:
        write_copy(Path(folder), read.files)
        yield Path(folder)
