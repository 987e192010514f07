"""The verbs that watch, stop and resume runs that were started, here or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import cluster_option, namespace_option, run_argument

if TYPE_CHECKING:
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow.run import ClusterRun
    from ..runs.run_dir import RunDir


def _rank(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """A rank's number; None for ``all``."""
    if value != "all" and not value.isdecimal():
        raise click.BadParameter(f"expected a number from 0 on, or all; found {value!r}")
    return None if value == "all" else int(value)


@click.command("logs")
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over; Ctrl-C leaves it alone.")
@click.option(
    "--rank", default="0", callback=_rank, metavar="N|all", help="Whose log (default: 0); all: each line with its rank."
)
@cluster_option
@namespace_option
def logs(name: str, follow: bool, rank: int | None, cluster: bool, namespace: str | None) -> int:
    """Print what a run has said, from its first line."""
    from ..backends.finding import find
    from .watch import show_log

    where, run = find(name, cluster=cluster, namespace=namespace)
    return show_log(where, run, rank=rank, follow=follow)


@click.command("stop")
@run_argument
@click.option("--now", is_flag=True, help="Kill it at once, without a checkpoint.")
@cluster_option
@namespace_option
def stop(name: str, now: bool, cluster: bool, namespace: str | None) -> int:
    """Stop a run after a checkpoint and wait for its end."""
    from ..backends.finding import find
    from .watch import stop_and_wait

    where, run = find(name, cluster=cluster, namespace=namespace)
    return stop_and_wait(where, run, now=now)


@click.command("resume", short_help="Go on with a run that was stopped or killed, or has failed.")
@run_argument
@click.option("--detach", is_flag=True, help="Start it and return; `launcher logs -f RUN` follows it.")
@cluster_option
@namespace_option
def resume(name: str, detach: bool, cluster: bool, namespace: str | None) -> int:
    """Start a run again that was stopped or killed, or has failed: in its own folder, from its newest checkpoint.

    It ends with the adapter that it would have had. With other settings, start a new run with
    --set hyperparameters.resume_from_checkpoint=true.
    """
    from ..backends.finding import find, on_cluster

    where, run = find(name, cluster=cluster, namespace=namespace)
    now = where.status(run)
    if not now.is_over:
        raise UsageError(f"{run.name} is {now.state}: `launcher logs -f {run.name}` follows it")
    if now.state == "done":
        raise UsageError(f"{run.name} is done: there is nothing to go on with")
    there = on_cluster(where, run)
    return _resume_here(run, detach) if there is None else _resume_there(*there, detach)


def _resume_here(run: RunDir, detach: bool) -> int:
    from ..backends.choose import backend_of
    from ..backends.host import gpus_there
    from ..experiment.files import read_env
    from ..job.resume import job_again
    from .runs import start

    where = backend_of(run)
    job = job_again(run, gpus_there(read_env(Path.cwd())))
    spec: Any = where.render(job)
    if spec.run_dir.path.resolve() != run.path.resolve():
        raise UsageError(f"{run.path}: go to the directory where the run was started, and resume it there")
    where.prepare(spec, click.echo)
    newest = run.checkpoints()[-1:]
    click.echo(f"{run.name} goes on from {newest[0].name if newest else 'its beginning: it has no checkpoint yet'}")
    return start(where, job, spec, detach, again=True)


def _resume_there(where: Kubernetes, run: ClusterRun, detach: bool) -> int:
    from .watch import Interrupts, watch

    newest = where.checkpoints(run)[-1:]
    begin = where.mark(run)
    with Interrupts() as interrupts:
        where.resume(run)
        click.echo(f"{run.name} goes on from {newest[0] if newest else 'its newest checkpoint, if it has one'}")
        if detach:
            click.echo(f"{run.name} has begun: launcher logs -f {run.name}")
            return 0
        return watch(where, run, interrupts, pairs_a_step=run.global_batch, begin=begin)


VERBS: tuple[click.Command, ...] = (resume, logs, stop)
