"""The verbs that follow, stop and resume runs, on this machine or on a cluster."""

from __future__ import annotations

import click

from ..errors import UsageError
from .terminal.options import cluster_option, namespace_option, run_argument
from .terminal.screen import complain, say, typed


def _rank(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """A rank's number; None for ``all``."""
    if value != "all" and not value.isdecimal():
        raise click.BadParameter(f"expected a number from 0 on, or all; found {value!r}")
    return None if value == "all" else int(value)


@click.command("logs", short_help="Print a run's log.")
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the run ends; Ctrl-C does not stop the run.")
@click.option(
    "--rank", default="0", callback=_rank, metavar="N|all", help="Rank of the log (default: 0); all: every line with its rank."
)
@cluster_option
@namespace_option
def logs(name: str, follow: bool, rank: int | None, cluster: bool, namespace: str | None) -> int:
    """Print a run's log, from its first line; of a sweep: when each point was started and how it ended."""
    from ..launch.sweeps.found import Swept, find
    from .watch import show_log

    found = find(name, cluster=cluster, namespace=namespace)
    if isinstance(found, Swept):
        from .sweep import show_log as show_sweep

        if rank != 0:
            raise UsageError(f"--rank is for one run: {', '.join(run.name for _, run, _ in found.runs[:3])}")
        return show_sweep(found, follow=follow)
    return show_log(*found, rank=rank, follow=follow)


@click.command("stop", short_help="Stop a run after a checkpoint.")
@run_argument
@click.option("--now", is_flag=True, help="Kill it at once, without a checkpoint.")
@cluster_option
@namespace_option
def stop(name: str, now: bool, cluster: bool, namespace: str | None) -> None:
    """Stop a run after a checkpoint, and wait until it has ended. The name of a sweep stops all its runs."""
    from ..backends.stopping import stop as stop_run
    from ..launch.sweeps.found import Swept, find
    from .watch import conclude

    found = find(name, cluster=cluster, namespace=namespace)
    if isinstance(found, Swept):
        from .sweep import stop_sweep

        stop_sweep(found, now=now)
        return
    where, run = found
    conclude(stop_run(where, run, now=now, say=say, warn=complain), err=False)


@click.command("resume", short_help="Resume a run that was stopped, killed or failed.")
@run_argument
@click.option("--detach", is_flag=True, help="Start it and return; follow it with: launcher logs -f RUN.")
@cluster_option
@namespace_option
def resume(name: str, detach: bool, cluster: bool, namespace: str | None) -> int:
    """Resume a run that was stopped, killed or failed: in its own folder, from its newest checkpoint.

    It ends with the same adapter as without the interruption. To change settings, start a new run with
    --set hyperparameters.resume_from_checkpoint=true. The name of a sweep continues what is not done.
    """
    from ..launch.repeats.copied import found_or_brought
    from ..launch.repeats.resume import resumption
    from ..launch.sweeps.found import Swept
    from .watch import Interrupts, watch

    there = found_or_brought(name, cluster=cluster, namespace=namespace, say=say)
    if isinstance(there, Swept):
        from .sweep import resume_sweep

        return resume_sweep(there, detach)
    found = resumption(*there, say=say)
    with Interrupts() as interrupts:
        run = found.start()
        say(found.sentence)
        if detach:
            say(typed(f"Started {run.name}. Follow it with: launcher logs -f {run.name}"))
            return 0
        return watch(found.where, run, interrupts, pairs_a_step=found.pairs_a_step, begin=found.begin)


@click.command("rm", short_help="Remove a run's Job from the cluster; its folder stays.")
@run_argument
@cluster_option
@namespace_option
def remove(name: str, cluster: bool, namespace: str | None) -> None:
    """Remove a run that has ended from the cluster: its Job and the Job's objects. Its folder on the claim stays.

    `launcher resume RUN` creates the Job again from that folder. The name of a sweep removes the Jobs of all its runs.
    """
    from ..launch.removing import remove as remove_run

    for line in remove_run(name, cluster=cluster, namespace=namespace):
        say(line)


VERBS: tuple[click.Command, ...] = (resume, logs, stop, remove)
