"""The verb that starts runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import (
    backend_option,
    cluster_option,
    data_of_option,
    experiment_argument,
    file_option,
    name_option,
    namespace_option,
    set_option,
)
from .screen import complain, facts, notices
from .submit import registry_option

if TYPE_CHECKING:
    from ..backends.choose import AnyBackend
    from ..job.job import Job


@click.command("run")
@experiment_argument()
@click.option("--local", is_flag=True, help="On this machine: in a container where Docker is, else on the host.")
@cluster_option
@namespace_option
@registry_option
@backend_option
@click.option("--detach", is_flag=True, help="Start it and return; `launcher logs -f RUN` follows it.")
@click.option("--dry-run", is_flag=True, help="Print what would be started, as `launcher render` does.")
@set_option
@name_option
@data_of_option
@file_option
def run(
    experiment: str,
    local: bool,
    cluster: bool,
    namespace: str | None,
    registry: str | None,
    backend: str | None,
    detach: bool,
    dry_run: bool,
    overrides: tuple[str, ...],
    run_name: str | None,
    data_of: str | None,
    file: Path | None,
) -> int:
    """Train the experiment EXP and follow it to its end.

    Ctrl-C asks whether to stop it after a checkpoint or to leave it running (where nobody can answer it stops), a second Ctrl-C
    kills it. The exit code is the run's: 0 done, 42 the experiment is wrong, 43 the data, 143 stopped on request, 130 aborted.
    """
    if cluster or backend == "kubernetes":
        if local or backend not in (None, "kubernetes"):
            raise UsageError("--cluster goes with neither --local nor another --backend")
        from ..launch.rendered import cluster_settings

        settings = (*overrides, *cluster_settings(None, namespace))
        return _on_cluster(
            experiment, settings, run_name, file, registry=registry, data_of=data_of, detach=detach, dry_run=dry_run
        )
    if namespace is not None:
        raise UsageError("--namespace is for a cluster: add --cluster")
    from ..launch.rendered import rendered

    where, job, loaded, why = rendered(experiment, backend, overrides, run_name, file)
    with loaded.placed():
        spec: Any = where.render(job)
    if dry_run:
        click.echo(where.text(spec), nl=False)
        return 0
    from ..backends.finding import local_runs
    from ..data.pairs import read_pairs
    from ..experiment.files import read_env
    from ..job.job import check_model
    from ..launch.data import copy_of, reading_for, with_copy
    from ..planning.derived import derived
    from ..planning.planned import said_before_run

    caller = read_env(Path.cwd())
    with loaded.placed(), copy_of(job.experiment, data_of) as copy:
        check_model(job.experiment.model_name, where.cwd)
        pairs = read_pairs(job.experiment, reading_for(job, spec.run_dir, where.cwd, caller, copy, complain))
    if run_name is not None and job.node.rank == 0 and any(known.name == run_name for known in local_runs()):
        raise UsageError(f"--name {run_name}: a run of that name exists already")
    if why is not None:
        click.echo(why)
    facts(said_before_run(job.experiment, pairs, Path(), caller))
    where.prepare(spec, click.echo)
    facts(derived(job, pairs, spec.run_dir).facts)
    notices((*pairs.notices, *where.notices(job)))
    return start(where, job, with_copy(spec, pairs.spreadsheet), detach)


def _on_cluster(
    name: str,
    overrides: tuple[str, ...],
    run_name: str | None,
    file: Path | None,
    *,
    registry: str | None,
    data_of: str | None,
    detach: bool,
    dry_run: bool,
) -> int:
    """`launcher submit --follow`, or what it would create."""
    if not dry_run:
        from .submit import submit_to_cluster

        return submit_to_cluster(name, overrides, run_name, file, registry=registry, follow=not detach, data_of=data_of)
    from ..backends.kubernetes.render.spec import text
    from ..launch.rendered import cluster_job, cluster_spec

    job, loaded = cluster_job(name, overrides, run_name, file)
    click.echo(text(cluster_spec(job, loaded, namespace=job.experiment.launch.kubernetes.namespace)), nl=False)
    return 0


def start(where: AnyBackend, job: Job, spec: Any, detach: bool, *, again: bool = False) -> int:
    """Starts what was rendered, on this machine, and follows it to its end unless it is to be left alone."""
    from .watch import Interrupts, watch

    begin = where.mark(spec.run_dir) if again else 0
    if detach:
        where.submit(spec, again=again)
        click.echo(f"{job.run} has begun: launcher logs -f {job.run}")
        return 0
    with Interrupts() as interrupts:
        run = where.submit(spec, again=again)
        return watch(where, run, interrupts, pairs_a_step=job.experiment.global_batch, begin=begin)


VERBS: tuple[click.Command, ...] = (run,)
