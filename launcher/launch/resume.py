"""Resuming a run that is over, in its own folder, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..backends import Runs
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow.run import ClusterRun
    from ..runs.run_dir import RunDir


@dataclass(frozen=True)
class Resumption:
    """A run, ready to be started again. ``sentence`` says how it begins, ``begin`` is where a follower of its log begins."""

    where: Runs[Any]
    run: Any
    sentence: str
    pairs_a_step: int | None
    begin: int
    start: Callable[[], object] = field(repr=False)


def resumption(where: Runs[Any], run: Any, say: Callable[[str], None]) -> Resumption:
    """``run``, ready to be resumed; ``say`` is told what is prepared for it.

    Raises UsageError for a run that is not over, is done, or was started in another directory.
    """
    from ..backends.finding import on_cluster

    now = where.status(run)
    if not now.is_over:
        raise UsageError(f"{run.name} is {now.state}. Follow it with: launcher logs -f {run.name}")
    if now.state == "done":
        raise UsageError(f"{run.name} is done: nothing to resume")
    there = on_cluster(where, run)
    return _here(run, say) if there is None else _there(*there)


def _here(run: RunDir, say: Callable[[str], None]) -> Resumption:
    from ..backends.choose import backend_of
    from ..backends.host import gpus_there
    from ..experiment.files import read_env
    from ..job.resume import job_again
    from ..why import begins

    where = backend_of(run)
    job = job_again(run, gpus_there(read_env(Path.cwd())))
    spec: Any = where.render(job)
    if spec.run_dir.path.resolve() != run.path.resolve():
        raise UsageError(f"{run.path}: resume it in the directory where it was started")
    where.prepare(spec, say)
    sentence = f"{run.name} {begins(where.checkpoints(run))}"
    start = partial(where.submit, spec, again=True)
    return Resumption(where, run, sentence, job.experiment.global_batch, where.mark(run), start)


def _there(where: Kubernetes, run: ClusterRun) -> Resumption:
    from ..why import begins

    sentence = f"{run.name} {begins(where.evidence(run).checkpoints)}"
    return Resumption(where, run, sentence, run.global_batch, where.mark(run), partial(where.resume, run))
