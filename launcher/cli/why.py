"""The verb that explains a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .options import cluster_option, json_option, namespace_option, run_argument

if TYPE_CHECKING:
    from ..why import Evidence


@click.command("why", short_help="Say why a run is as it is, and what to do about it.")
@run_argument
@json_option
@cluster_option
@namespace_option
def why(name: str, as_json: bool, cluster: bool, namespace: str | None) -> None:
    """Say in a sentence why a run is as it is, and what to do about it.

    RUN is a name or its beginning, an experiment (its newest run) or `latest`. What Docker, a host or a cluster shows of it is
    looked at: conditions, events, exit codes, queues, and its last lines.
    """
    from ..why import explain

    seen = _seen(name, cluster, namespace)
    found = explain(seen)
    if as_json:
        told = {"run": seen.run, "backend": seen.backend, "state": seen.state, "exit_code": seen.exit_code}
        click.echo(json.dumps({**told, **asdict(found), "unseen": list(seen.unseen)}, indent=2, ensure_ascii=False))
        return
    click.echo(f"{'why':<12}{found.sentence}")
    click.echo(f"{'what to do':<12}{found.suggestion}")
    for what in seen.unseen:
        click.echo(f"{'not seen':<12}{what}")


def _seen(name: str, cluster: bool, namespace: str | None) -> Evidence:
    from ..backends import evidence
    from ..backends.finding import find
    from ..backends.kubernetes.backend import Kubernetes
    from ..backends.kubernetes.follow import evidence as of_cluster

    where, run = find(name, cluster=cluster, namespace=namespace)
    if isinstance(where, Kubernetes):
        return of_cluster.gather(where.cluster, run)
    return evidence.gather(run, where.status(run))


VERBS: tuple[click.Command, ...] = (why,)
