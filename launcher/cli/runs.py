"""The verb that starts runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .submit import registry_option
from .sweep import parallel_option, sweep_option
from .terminal.options import backend_option, choice, cluster_option, data_of_option, full_option, namespace_option
from .terminal.screen import complain, facts, notices, say, this_launcher

if TYPE_CHECKING:
    from ..launch.rendered import Choice
    from ..launch.start import Prepared


@dataclass(frozen=True)
class Target:
    """Where to start a run. ``backend``: None to choose one on this machine."""

    backend: str | None
    namespace: str | None
    registry: str | None

    @property
    def is_cluster(self) -> bool:
        return self.backend == "kubernetes"


def _target(command: Callable[..., int]) -> Callable[..., int]:
    """Gives ``--local``, ``--cluster``, ``-n``, ``--registry`` and ``--backend`` to the verb as one value ``target``."""

    @wraps(command)
    def targeted(
        local: bool, cluster: bool, namespace: str | None, registry: str | None, backend: str | None, **others: Any
    ) -> int:
        is_cluster = cluster or backend == "kubernetes"
        if is_cluster and (local or backend not in (None, "kubernetes")):
            raise UsageError("--cluster excludes --local and every other --backend")
        if namespace is not None and not is_cluster:
            raise UsageError("--namespace is for a cluster: add --cluster")
        return command(target=Target("kubernetes" if is_cluster else backend, namespace, registry), **others)

    options = cluster_option(namespace_option(registry_option(backend_option(targeted))))
    return click.option("--local", is_flag=True, help="Run on this machine: in a container if Docker answers, else on the host.")(
        options
    )


@click.command("run", short_help="Train EXP and follow it to the end.")
@_target
@click.option("--detach", is_flag=True, help="Start it and return; follow it with `launcher logs -f RUN`.")
@click.option("--dry-run", is_flag=True, help="Print the command and start nothing, like `launcher render`.")
@full_option
@choice()
@sweep_option
@parallel_option
@data_of_option
def run(
    choice: Choice,
    target: Target,
    detach: bool,
    dry_run: bool,
    full: bool,
    data_of: str | None,
    axes: tuple[str, ...],
    parallel: int | None,
) -> int:
    """Train the experiment EXP and follow it to the end.

    Ctrl-C asks whether to stop after a checkpoint or to detach (without a terminal it stops). A second Ctrl-C kills the run. The
    exit code is that of the run: 0 done, 42 mistake in the experiment, 43 in the data, 143 stopped on request, 130 killed.

    With --sweep: one run for each combination of values, NAME-1, NAME-2, … and a ranked table at the end. A point that fails does
    not stop the others (exit code 1); the same command with --name, or `launcher resume NAME`, continues what is not done.
    """
    if axes:
        return _sweep(choice, target, axes, parallel, data_of, detach=detach, dry_run=dry_run, full=full)
    if parallel is not None:
        raise UsageError("--parallel needs --sweep")
    from ..launch.rendered import rendered, rendered_for_cluster
    from ..launch.start import prepare
    from .terminal.live import waiting

    if target.is_cluster:
        choice = choice.on_cluster(None, target.namespace)
        if not dry_run:
            return _submit(choice, target.registry, data_of, detach)
    found = rendered_for_cluster(choice) if target.is_cluster else rendered(choice, target.backend)
    if dry_run:
        click.echo(found.text(full=full), nl=False)
        return 0
    with waiting("reading the model's configuration and the data") as told:
        ready = prepare(found, data_of, told)
    facts(ready.facts)
    notices(ready.notices)
    ready.where.prepare(ready.spec, say)
    return start(ready, detach)


def _sweep(
    choice: Choice,
    target: Target,
    axes: tuple[str, ...],
    parallel: int | None,
    data_of: str | None,
    *,
    detach: bool,
    dry_run: bool,
    full: bool,
) -> int:
    from .sweep import render_sweep, run_here, submit_sweep

    if target.is_cluster:
        choice = choice.on_cluster(None, target.namespace)
    if dry_run:
        render_sweep(choice, axes, target.backend, parallel, cluster=target.is_cluster, full=full)
        return 0
    if target.is_cluster:
        return submit_sweep(choice, axes, target.registry, data_of, parallel, anyway=False, as_json=False)
    return run_here(choice, axes, target.backend, parallel, data_of, detach=detach)


def _submit(choice: Choice, registry: str | None, data_of: str | None, detach: bool) -> int:
    """Does what ``launcher submit --follow`` does."""
    from .submit import submit_to_cluster

    return submit_to_cluster(choice, registry, data_of, follow=not detach)


def start(ready: Prepared, detach: bool) -> int:
    """Starts a run on this machine and, unless ``detach``, follows it to the end. Returns the exit code."""
    from .watch import Interrupts, watch

    job = ready.job
    if detach:
        ready.start(complain)
        say(f"Started {job.run}. Follow it with: {this_launcher()} logs -f {job.run}")
        return 0
    with Interrupts() as interrupts:
        run = ready.start(complain)
        return watch(ready.where, run, interrupts, pairs_a_step=job.experiment.global_batch)


VERBS: tuple[click.Command, ...] = (run,)
