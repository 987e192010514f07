"""The verbs that say how runs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import cluster_option, json_option, namespace_option, run_argument

if TYPE_CHECKING:
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow.run import ClusterRun
    from ..runs.known import Known
    from ..why import Pod

_NEWEST = 10


@click.command("ps", short_help="List runs, newest first, here or on the cluster.")
@json_option
@click.option("-a", "--all", "every", is_flag=True, help="All runs, not the ten newest and those that run.")
@cluster_option
@namespace_option
def ps(as_json: bool, every: bool, cluster: bool, namespace: str | None) -> None:
    """List runs, newest first: those of this machine, or with --cluster those of the cluster."""
    from ..backends.finding import has_kubeconfig, known, known_on_clusters, local_runs_and_containers
    from ..experiment.files import read_env

    caller = read_env(Path.cwd())
    on_cluster = cluster or namespace is not None
    found = known_on_clusters(caller, namespace) if on_cluster else [known(run) for run in local_runs_and_containers()]
    shown = [run for number, run in enumerate(found) if every or number < _NEWEST or not run.is_over]
    if as_json:
        _echo_json([run.json() for run in shown])
        return
    if shown:
        _table(_cluster_rows(shown) if on_cluster else _rows(shown))
    else:
        click.echo("no run yet: `launcher submit EXP` makes one" if on_cluster else "no run yet: `launcher run EXP` makes one")
    if len(shown) < len(found):
        click.echo(f"… and {len(found) - len(shown)} older (ps -a)")
    if not on_cluster and has_kubeconfig(caller):
        click.secho("those of the cluster: launcher ps --cluster", dim=True)


@click.command("status")
@run_argument
@json_option
@cluster_option
@namespace_option
def status(name: str, as_json: bool, cluster: bool, namespace: str | None) -> None:
    """Say how one run is. RUN is a name or its beginning, an experiment (its newest run) or `latest`."""
    from ..backends.finding import find, known, on_cluster

    where, run = find(name, cluster=cluster, namespace=namespace)
    if (there := on_cluster(where, run)) is not None:
        _cluster_status(*there, as_json)
        return
    now, record = known(run), where.record(run)
    if as_json:
        _echo_json({**now.json(), "record": record})
        return
    _facts({**_first_facts(now), **_progress(now), **_last_facts(now), "attempts": str(len(record.get("attempts", [])))})
    _facts({"folder": now.folder})


def _cluster_status(where: Kubernetes, run: ClusterRun, as_json: bool) -> None:
    from ..backends.finding import known_on_cluster
    from ..backends.kubernetes.follow import state
    from ..backends.kubernetes.follow.pods import is_running, newest, reason

    obj, every = where.object(run), where.pods(run)
    pods = newest(every)
    now, record = known_on_cluster(where, run), where.record(run)
    restarts = state.restarts(obj, every) if obj is not None else None
    if as_json:
        listed = [{"name": p.name, "index": p.index, "node": p.host, "phase": p.phase, "reason": reason(p)} for p in pods]
        _echo_json({**now.json(), "job": run.job, "kind": run.kind, "restarts": restarts, "pods": listed, "record": record})
        return
    run_count = sum(is_running(pod) for pod in pods)
    nodes = f"{run_count} of {run.nodes} run" if not now.is_over else str(run.nodes)
    _facts({**_first_facts(now), "nodes": nodes if obj is not None else None})
    for line in _pod_lines(pods):
        click.echo(f"{'':<12}{line}")
    again = {"restarts": str(restarts) if restarts is not None else None}
    image = run.image or None
    place = f"{run.namespace}/{run.job} ({run.kind})" if obj is not None else f"{run.namespace} (its {run.kind} is gone)"
    _facts({**again, **_progress(now), **_last_facts(now), "object": place, "image": image, "folder": now.folder})


def _rows(runs: Sequence[Known]) -> list[tuple[str, ...]]:
    rows = [
        (run.run, _state(run), run.progress, "-" if run.loss is None else f"{run.loss:z.4f}", _minute(run.created), run.took)
        for run in runs
    ]
    return [("RUN", "STATE", "STEP", "LOSS", "STARTED (UTC)", "TOOK"), *rows]


def _cluster_rows(runs: Sequence[Known]) -> list[tuple[str, ...]]:
    rows = [(run.run, _state(run), str(run.nodes), run.namespace or "-", _minute(run.created), run.took) for run in runs]
    return [("RUN", "STATE", "NODES", "NAMESPACE", "STARTED (UTC)", "TOOK"), *rows]


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _pod_lines(pods: Sequence[Pod]) -> list[str]:
    """One line a node of the run: its number, its machine, its pod's phase with the reason, its pod."""
    from ..backends.kubernetes.follow.pods import is_running, reason

    rows = []
    for pod in pods:
        why = "" if is_running(pod) else reason(pod)
        rows.append((str(pod.index or 0), pod.host or "-", pod.phase + (f" ({why})" if why else ""), pod.name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _first_facts(now: Known) -> dict[str, str | None]:
    because = None if now.sentence == now.state else now.sentence
    return {"run": now.run, "experiment": now.experiment, "state": _state(now), "because": because}


def _progress(now: Known) -> dict[str, str | None]:
    from ..runs.known import duration

    return {
        "step": now.progress,
        "loss": None if now.loss is None else f"{now.loss:z.4f}",
        "speed": None if now.rate is None else f"{now.rate:.1f} pairs/s",
        "left": None if now.left is None else f"about {duration(now.left)}",
    }


def _last_facts(now: Known) -> dict[str, str | None]:
    return {"started": f"{_minute(now.created)} UTC" if now.created else None, "took": now.took}


def _facts(facts: Mapping[str, str | None]) -> None:
    for label, fact in facts.items():
        if fact is not None:
            click.echo(f"{label:<12}" + "\n".ljust(13).join(fact.splitlines()))


def _state(run: Known) -> str:
    return run.state if run.exit_code in (None, 0) else f"{run.state} ({run.exit_code})"


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _echo_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


VERBS: tuple[click.Command, ...] = (ps, status)
