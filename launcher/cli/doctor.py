"""The verb that says what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..why.doctor import Finding


@click.command("doctor")
@click.option("--cluster", "on_cluster", is_flag=True, help="Look at the cluster of the kubeconfig, not at this machine.")
@click.option("-n", "--namespace", metavar="NS", help="The cluster's namespace (default: the context's); implies --cluster.")
@json_option
def doctor(on_cluster: bool, namespace: str | None, as_json: bool) -> int:
    """Say what is missing for runs, and the command that adds it.

    The exit code is 0 if all that is needed is there, else 1. What you may not look at is unknown, and counts as there.
    """
    from ..experiment.files import read_env
    from ..why.doctor import is_ready

    caller = read_env(Path.cwd())
    found = _of_cluster(caller, namespace) if on_cluster or namespace else _of_machine(caller)
    ready = is_ready(found)
    if as_json:
        click.echo(json.dumps({"ready": ready, "findings": [asdict(one) for one in found]}, indent=2, ensure_ascii=False))
        return 0 if ready else 1
    width = max(len(one.what) for one in found)
    for one in found:
        mark = one.state if one.is_needed or one.state != "missing" else "absent"
        click.echo(f"{mark:<8} {one.what:<{width}}  {one.detail}")
        if one.command is not None and one.state != "ok":
            click.echo(f"{'':<8} {'':<{width}}  → {one.command}")
    wrong = sum(one.is_wrong for one in found)
    click.echo("all that is needed is there" if ready else f"{wrong} thing{'s' if wrong > 1 else ''} missing")
    return 0 if ready else 1


def _of_machine(caller: Mapping[str, str]) -> list[Finding]:
    from ..backends.checkup import look

    return look(Path.cwd(), caller, _needed_secrets())


def _of_cluster(caller: Mapping[str, str], namespace: str | None) -> list[Finding]:
    from ..backends.kubernetes.api.cluster import Cluster, ClusterError
    from ..backends.kubernetes.submit.checkup import look
    from ..why.doctor import Finding

    try:
        return look(Cluster.connect(caller, namespace))
    except ClusterError as error:
        reason, *rest = str(error).splitlines()
        hint = next((line.partition("hint:")[2].strip() for line in rest if "hint:" in line), None)
        return [Finding("cluster", "missing", reason, hint or "kubectl config get-contexts")]


def _needed_secrets() -> dict[str, list[str]]:
    """The names under launch.secrets of every experiment below this directory, whatever else is wrong with it."""
    from ..errors import ExperimentError
    from ..experiment.files import read_files
    from ..experiment.yaml_nodes import data

    try:
        found = read_files(Path.cwd()).found
    except ExperimentError:  # no file at all: nothing is needed
        return {}
    named = {}
    for one in found:
        launch = data(one.node).get("launch")
        secrets = launch.get("secrets") if isinstance(launch, dict) else None
        if isinstance(secrets, list):
            named[one.key] = [str(name) for name in secrets]
    return named


VERBS: tuple[click.Command, ...] = (doctor,)
