"""The verbs that print what would be started. They start nothing and contact neither engine nor cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .sweep import parallel_option, render_sweep, sweep_option
from .terminal.options import (
    backend_option,
    choice,
    cluster_option,
    full_option,
    json_option,
    kind_option,
    namespace_option,
)
from .terminal.screen import say

if TYPE_CHECKING:
    from ..launch.rendered import Choice


@click.command("render", short_help="Print the command or the objects that EXP would start.")
@backend_option
@cluster_option
@kind_option
@namespace_option
@full_option
@choice()
@sweep_option
@parallel_option
def render(
    choice: Choice,
    backend: str | None,
    cluster: bool,
    kind: str | None,
    namespace: str | None,
    full: bool,
    axes: tuple[str, ...],
    parallel: int | None,
) -> None:
    """Print the command that `launcher run EXP` would start.

    With --cluster: print the objects that `launcher submit EXP` would create, as YAML for `kubectl create -f -`. With --full:
    print a script that also writes the files which the run reads.
    """
    from ..launch.rendered import rendered, rendered_for_cluster

    is_cluster = cluster or backend == "kubernetes"
    if is_cluster:
        choice = choice.on_cluster(kind, namespace)
    elif kind is not None or namespace is not None:
        raise UsageError("--kind and --namespace are for a cluster: add --cluster")
    if axes:
        render_sweep(choice, axes, backend, parallel, cluster=is_cluster, full=full)
        return
    if parallel is not None:
        raise UsageError("--parallel needs --sweep")
    found = rendered_for_cluster(choice) if is_cluster else rendered(choice, backend)
    click.echo(found.text(full=full), nl=False)


@click.command("diff", short_help="Compare a run on this machine with one on a cluster.")
@kind_option
@namespace_option
@json_option
@choice(name=False)
def diff(choice: Choice, kind: str | None, namespace: str | None, as_json: bool) -> None:
    """Compare EXP's container on this machine with its pods on a cluster. Starts nothing and needs no cluster."""
    from ..launch.rendered import differences

    found = differences(choice.on_cluster(kind, namespace))
    if as_json:
        import json

        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
        return
    say(f"{found.experiment}: only these settings differ between a container here and the cluster")
    for one in found.all:
        say(f"\n{one.what}")
        say(f"    here     {one.here}", indent=9)
        say(f"    cluster  {one.there}", indent=9)


VERBS: tuple[click.Command, ...] = (render, diff)
