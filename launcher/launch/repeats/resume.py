"""Resumes a run in its own folder, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError

if TYPE_CHECKING:
    from ...backends import Runs
    from ...backends.kubernetes.backend import Kubernetes
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...runs.run_dir import RunDir


@dataclass(frozen=True)
class Resumption:
    """A run that is ready to be resumed. ``sentence``: where it begins. ``begin``: position in the log to follow from.

    ``start``: starts it and returns the run.
    """

    where: Runs[Any]
    run: Any
    sentence: str
    pairs_a_step: int | None
    begin: int
    start: Callable[[], Any] = field(repr=False)


def resumption(where: Runs[Any], run: Any, say: Callable[[str], None]) -> Resumption:
    """``run``, ready to be resumed. ``say``: receives progress lines.

    Raises UsageError for a run that is not over, is done, or was started in another directory.
    """
    from ...backends.status.finding import on_cluster

    now = where.status(run)
    if not now.is_over:
        raise UsageError(f"{run.name} is {now.state}. Follow it with: launcher logs -f {run.name}")
    there = on_cluster(where, run)
    if now.state == "done":
        verb = "run" if there is None else "submit"
        longer = f"launcher {verb} EXP --set hyperparameters.num_train_epochs=N --set hyperparameters.resume_from_checkpoint=true"
        hint = f"to train longer from its last checkpoint: {longer}"
        raise UsageError(f"{run.name} is done: nothing to resume\n    hint:     {hint}")
    return _here(run, say) if there is None else _there(*there, say)


def _here(run: RunDir, say: Callable[[str], None]) -> Resumption:
    from ...backends.choose import backend_of
    from ...backends.host import gpus_there
    from ...experiment.files import read_env
    from ...job.resume import job_again
    from ...why import begins
    from .copied import with_copies

    where = backend_of(run)
    job = job_again(run, gpus_there(read_env(Path.cwd())))
    spec: Any = where.render(job)
    if spec.run_dir.path.resolve() != run.path.resolve():
        raise UsageError(f"{run.path}: resume it in the directory where it was started")
    where.prepare(spec, say)
    sentence = f"{run.name} {begins(with_copies(job.experiment, run, where.checkpoints(run)))}"
    start = partial(where.submit, spec, again=True)
    return Resumption(where, run, sentence, job.experiment.global_batch, where.mark(run), start)


def _there(where: Kubernetes, run: ClusterRun, say: Callable[[str], None]) -> Resumption:
    from ...why import begins

    start = starter(where, run, say)
    sentence = f"{run.name} {begins(where.evidence(run).checkpoints)}"
    return Resumption(where, run, sentence, run.global_batch, where.mark(run), start)


def starter(where: Kubernetes, run: ClusterRun, say: Callable[[str], None]) -> Callable[[], ClusterRun]:
    """A function that starts a cluster's run again: its Job, or a new Job made from the run's folder.

    One point of a sweep in a shared Job gets its own Job. Raises UsageError if the Job belongs to another experiment with the
    run's name, or to a sweep that an earlier version rendered, and what ``rebuilt`` raises.
    """
    from ...backends.kubernetes.follow.stops import can_stop
    from ...why.ending import ANOTHER
    from .own_job import own_job
    from .rebuilt import rebuilt

    obj = where.object(run)
    if obj is None:
        return rebuilt(where, run, say).create
    if run.index is not None and can_stop(obj):
        return own_job(where, run, obj, say)
    sentence = where.status(run).sentence or ""
    if ANOTHER in sentence:
        raise UsageError(
            f"{run.name}: {sentence}\n    hint:     remove this one with: launcher rm {run.name}; then resume the earlier one"
            f" with: launcher resume {run.name}"
        )
    return partial(where.resume, run)
