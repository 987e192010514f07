"""The verbs that show the status of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError, Warned
from ..experiment.other_tools.method import SFT
from .health import drawn
from .terminal.options import cluster_option, json_option, namespace_option, run_argument
from .terminal.screen import LABEL, facts, notices, say, table, typed

if TYPE_CHECKING:
    from ..backends.status.cluster import ClusterPart
    from ..backends.status.state import RunStatus
    from ..backends.status.usage import Used
    from ..runs.known import Known

_NEWEST = 10
# Columns that a narrow terminal leaves out, in this order.
_NARROW = ("STARTED (UTC)", "NODES", "USER", "TOOK", "MARGIN", "HEALTH", "NAMESPACE", "ACCURACY", "STEP")


@click.command("ps", short_help="List runs, newest first.")
@json_option
@click.option(
    "-a",
    "--all",
    "every",
    is_flag=True,
    help="List all runs, even if their Job is gone (default: those that run and the ten newest).",
)
@click.option("--sort", metavar="KEY", help="Sort by accuracy, margin, loss, …, best first; -KEY reverses.")
@click.option("--by", type=click.Choice(["user", "experiment"]), help="Sum runs and GPU-hours by user or experiment.")
@cluster_option
@namespace_option
def ps(as_json: bool, every: bool, sort: str | None, by: str | None, cluster: bool, namespace: str | None) -> None:
    """List runs, newest first: those of this machine, or with --cluster those of the cluster.

    --by also counts runs on the cluster whose Job is gone, if the TensorBoard pod can read their records.
    KEY of --sort is accuracy, margin, loss, step, started, took, run or state; with --cluster started, run or state. Steps
    and metrics of a run on the cluster: launcher status RUN. Their health is read through the TensorBoard pod.
    """
    from ..backends.status.usage import cluster_usage, local_usage
    from ..experiment.files import read_env

    caller = read_env(Path.cwd())
    on_cluster = cluster or namespace is not None
    if by is not None:
        if sort is not None:
            raise UsageError("--by cannot be combined with --sort: the largest sum comes first")
        _show_usage(cluster_usage(caller, namespace, by) if on_cluster else local_usage(by), by, as_json)
        return
    shown, others = _listed(caller, namespace, sort, every=every, on_cluster=on_cluster)
    if as_json:
        _echo_json([run.json() for run in shown])
    else:
        _draw_list(shown, others, sort, caller, on_cluster=on_cluster)


def _listed(
    caller: Mapping[str, str], namespace: str | None, sort: str | None, *, every: bool, on_cluster: bool
) -> tuple[list[Known], int]:
    """(runs to show, number of older runs that are not shown)."""
    from ..backends.status.cluster import cluster_runs_known
    from ..backends.status.health import with_health
    from ..backends.status.state import local_runs_known
    from ..runs.sorting import ordered

    told: list[str] = []
    found = cluster_runs_known(caller, namespace, told.append if every else None) if on_cluster else local_runs_known()
    if sort is not None:
        found = ordered(found, sort, on_cluster=on_cluster)
    shown = [run for number, run in enumerate(found) if every or number < _NEWEST or not run.is_over]
    others = len(found) - len(shown)
    if on_cluster:
        shown = with_health(caller, shown, told.append)
    notices(told, err=True)
    return shown, others


def _draw_list(shown: Sequence[Known], others: int, sort: str | None, caller: Mapping[str, str], *, on_cluster: bool) -> None:
    from ..backends.status.finding import has_kubeconfig

    if shown:
        by_loss = sort is not None and sort.removeprefix("-") == "loss"
        table(_cluster_rows(shown) if on_cluster else _rows(shown, with_loss=by_loss), optional=_NARROW)
    else:
        say(f"no runs yet; start one with: launcher {'submit' if on_cluster else 'run'} EXP")
    if others:
        say(f"… and {others} {'older' if sort is None else 'other'} runs: launcher ps {'--cluster ' if on_cluster else ''}-a")
    if not on_cluster and has_kubeconfig(caller):
        say("runs on the cluster: launcher ps --cluster")


@click.command("status", short_help="Show a run's status.")
@run_argument
@json_option
@cluster_option
@namespace_option
def status(name: str, as_json: bool, cluster: bool, namespace: str | None) -> None:
    """Show a run's status: state, progress, times and folder.

    RUN is a name or the beginning of one, an experiment (its newest run), `latest` or a sweep.
    """
    from ..backends.status.state import run_status
    from ..launch.sweeps.found import Swept, find

    there = find(name, cluster=cluster, namespace=namespace)
    if isinstance(there, Swept):
        from .points import show_status

        show_status(there, as_json)
        return
    found = run_status(*there)
    if as_json:
        _echo_json(found.json())
        return
    _draw(found)


def _draw(found: RunStatus) -> None:
    now, there, why = found.known, found.cluster, found.why
    sentence = None if now.sentence == now.state else now.sentence
    facts({"run": now.run, "experiment": now.experiment, "method": now.method if now.method == SFT else None})
    facts({"starts from": now.starts_from, "state": state_of(now)})
    facts({"because": sentence if why is None else why.sentence, "what to do": None if why is None else typed(why.suggestion)})
    if there is not None and there.restarts is not None:
        facts({"nodes": str(now.nodes) if now.is_over else f"{there.running} of {now.nodes} running"})
    for line in _pod_lines(there) if there is not None else ():
        say(f"{'':<{LABEL}}{line}", indent=4)
    if there is not None:
        facts({"restarts": None if there.restarts is None else str(there.restarts), "trainer": there.reported})
        facts({"attempts": "\n".join(found.attempts_before) or None})
    facts(_progress(now))
    _draw_copies(now)
    facts({"started": f"{_minute(now.created)} UTC" if now.created else None, "took": now.took})
    facts({"GPU-hours": f"{now.gpu_hours:.2f}" if now.gpu_hours else None, "user": now.user})
    drawn(now.health, above="" if why is None else f"{why.sentence}\n{why.suggestion}")
    facts({"attempts": str(found.attempts)} if there is None else {"object": _object(there), "image": there.image or None})
    facts({"folder": now.folder})


def _draw_copies(now: Known) -> None:
    """Prints the newest checkpoint in the bucket."""
    from ..runs.known import copied

    text = copied(now)
    if isinstance(text, Warned):
        notices([text])
    else:
        facts({"copied": text})


def _object(there: ClusterPart) -> str:
    if there.restarts is None:
        return f"{there.namespace} (its {there.kind} is gone)"
    return f"{there.namespace}/{there.job} ({there.kind})"


def _rows(runs: Sequence[Known], *, with_loss: bool) -> list[tuple[str, ...]]:
    """``with_loss``: with a column for losses, if they decide the order."""
    from ..health import worst

    rows = [("RUN", "STATE", "STEP", *(("LOSS",) if with_loss else ()), "ACCURACY", "MARGIN", "HEALTH", "STARTED (UTC)", "TOOK")]
    for run in runs:
        loss = ((_loss(run) or "-"),) if with_loss else ()
        state = (run.run, state_of(run), run.progress)
        rows.append((*state, *loss, *quality(run), worst(run.health), _minute(run.created), run.took))
    return rows


def _cluster_rows(runs: Sequence[Known]) -> list[tuple[str, ...]]:
    from ..health import worst

    rows: list[tuple[str, ...]] = [("RUN", "STATE", "NODES", "HEALTH", "USER", "NAMESPACE", "STARTED (UTC)", "TOOK")]
    for run in runs:
        where = (worst(run.health), run.user or "-", run.namespace or "-")
        rows.append((run.run, state_of(run), str(run.nodes), *where, _minute(run.created), run.took))
    return rows


def _show_usage(found: Used, by: str, as_json: bool) -> None:
    from ..runs.known import duration
    from ..runs.usage import total

    notices(found.notices, err=True)
    if as_json:
        _echo_json([row.json() for row in found.rows])
        return
    rows = [*found.rows, total(found.rows)] if len(found.rows) > 1 else found.rows
    unknown = {row.name: f" ({row.unknown} unknown)" if row.unknown else "" for row in rows}
    table(
        [
            (by.upper(), "RUNS", "ACTIVE", "GPU-HOURS", "TOOK"),
            *(
                (row.name, str(row.runs), str(row.active), f"{row.gpu_hours:.2f}{unknown[row.name]}", duration(row.seconds))
                for row in rows
            ),
        ]
    )


def _pod_lines(there: ClusterPart) -> list[str]:
    """One line per node: number, machine, phase of its pod with the reason, name of the pod."""
    rows = [
        (str(one.index or 0), one.node or "-", one.phase + (f" ({one.reason})" if one.reason else ""), one.name)
        for one in there.nodes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _progress(now: Known) -> dict[str, str | None]:
    from ..runs.known import duration

    return {
        "step": now.progress,
        "loss": _loss(now),
        now.figures or "validation": _judged(now),
        "speed": None if now.rate is None else f"{now.rate:.1f} pairs/s",
        "left": None if now.left is None else f"about {duration(now.left)}",
    }


def _judged(run: Known) -> str | None:
    if run.accuracy is None or run.margin is None:
        return None if run.validation_loss is None else f"loss {run.validation_loss:.4f}"
    return f"accuracy {run.accuracy:.2f}, margin {run.margin:+z.3f}"


def quality(run: Known) -> tuple[str, str]:
    """(accuracy, margin). Without validation pairs those of the training pairs, marked as such."""
    accuracy = "-" if run.accuracy is None else f"{run.accuracy:.2f}"
    margin = "-" if run.margin is None else f"{run.margin:+z.3f}"
    return accuracy + (" (train)" if run.figures == "training" and run.accuracy is not None else ""), margin


def _loss(run: Known) -> str | None:
    return None if run.loss is None else f"{run.loss:z.4f}"


def state_of(run: Known) -> str:
    return run.state if run.exit_code in (None, 0) else f"{run.state} ({run.exit_code})"


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _echo_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


VERBS: tuple[click.Command, ...] = (ps, status)
