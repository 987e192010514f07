"""The verbs that show what would be started, and the two ways from a name to a job that all verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from .options import (
    backend_option,
    cluster_option,
    experiment_argument,
    file_option,
    json_option,
    kind_option,
    name_option,
    namespace_option,
    set_option,
)

if TYPE_CHECKING:
    pass


@click.command("render", short_help="Print what `launcher run` or `launcher submit` would start.")
@experiment_argument()
@backend_option
@cluster_option
@kind_option
@namespace_option
@set_option
@name_option
@file_option
def render(
    experiment: str,
    backend: str | None,
    cluster: bool,
    kind: str | None,
    namespace: str | None,
    overrides: tuple[str, ...],
    run_name: str | None,
    file: Path | None,
) -> None:
    """Print what `launcher run EXP` would start, or `launcher submit EXP` create (--cluster).

    The objects of a cluster are YAML that `kubectl create -f -` takes; no cluster is asked.
    """
    if cluster or backend == "kubernetes":
        from ..backends.kubernetes.render.spec import text
        from ..launch.rendered import cluster_job, cluster_settings, cluster_spec

        job, loaded = cluster_job(experiment, (*overrides, *cluster_settings(kind, namespace)), run_name, file)
        click.echo(text(cluster_spec(job, loaded, namespace=job.experiment.launch.kubernetes.namespace)), nl=False)
        return
    if kind is not None or namespace is not None:
        raise UsageError("--kind and --namespace are for a cluster: add --cluster")
    from ..launch.rendered import rendered

    where, job, loaded, _ = rendered(experiment, backend, overrides, run_name, file)
    with loaded.placed():
        spec: Any = where.render(job)
    click.echo(where.text(spec), nl=False)


@click.command("diff", short_help="Say what differs between a run here and on a cluster.")
@experiment_argument()
@kind_option
@namespace_option
@set_option
@file_option
@json_option
def diff(
    experiment: str,
    kind: str | None,
    namespace: str | None,
    overrides: tuple[str, ...],
    file: Path | None,
    as_json: bool,
) -> None:
    """Say what differs between EXP's container on this machine and its pods on a cluster. Neither is started or asked."""
    from ..backends.diff import differences
    from ..launch.rendered import as_container, cluster_job, cluster_settings, cluster_spec

    cluster, loaded = cluster_job(experiment, (*overrides, *cluster_settings(kind, namespace)), None, file)
    there = cluster_spec(cluster, loaded, namespace=cluster.experiment.launch.kubernetes.namespace)
    found = differences(as_container(cluster, loaded), there)
    if as_json:
        import json

        click.echo(json.dumps([one.json() for one in found], indent=2, ensure_ascii=False))
        return
    click.echo(f"{loaded.key}: what differs between a container here and the cluster; all else is the same")
    for one in found:
        click.echo(f"\n{one.what}\n    here     {one.here}\n    cluster  {one.there}")


VERBS: tuple[click.Command, ...] = (render, diff)
