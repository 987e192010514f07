"""The verb that checks this machine or a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .terminal.options import json_option
from .terminal.screen import say


@click.command("doctor", short_help="Check this machine and print how to fix each problem.")
@click.option("--cluster", "on_cluster", is_flag=True, help="Check the cluster of the kubeconfig, not this machine.")
@click.option("-n", "--namespace", metavar="NS", help="The cluster's namespace (default: the context's); implies --cluster.")
@json_option
def doctor(on_cluster: bool, namespace: str | None, as_json: bool) -> int:
    """Check this machine (with --cluster: a cluster). Print the command that fixes each problem, and the next command.

    Exits 1 if something required is missing; what you have no right to see is reported as unknown.
    """
    from ..backends.checkup import check_cluster, check_machine
    from ..experiment.files import read_env

    caller = read_env(Path.cwd())
    found = check_cluster(Path.cwd(), caller, namespace) if on_cluster or namespace else check_machine(Path.cwd(), caller)
    if as_json:
        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
        return found.code
    width = max(len(one.what) for one in found.findings)
    for one in found.findings:
        say(f"{one.mark:<8} {one.what:<{width}}  {one.detail}", indent=9 + width + 2)
        if one.command is not None and one.state != "ok":
            say(f"{'':<8} {'':<{width}}  → {one.command}", indent=2)
    say(found.sentence)
    say(f"next: {found.next}")
    return found.code


VERBS: tuple[click.Command, ...] = (doctor,)
