"""The verb that opens a shell in a run."""

from __future__ import annotations

import click

from .terminal.options import cluster_option, namespace_option, run_argument
from .terminal.screen import complain


@click.command("shell", short_help="Open a shell in a run's container or pod.")
@run_argument
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1)
@click.option("--node", type=click.IntRange(0), default=0, metavar="N", help="Node of the run (default: 0).")
@cluster_option
@namespace_option
def shell(name: str, command: tuple[str, ...], node: int, cluster: bool, namespace: str | None) -> int:
    """Open a shell in a run's container or pod, or run COMMAND there and exit with its exit code.

    A run on the host has no container: the shell starts in the run's folder. On a cluster this needs the right to pods/exec.
    """
    from ..backends.shell import shell as opened
    from ..backends.status.finding import find

    return opened(*find(name, cluster=cluster, namespace=namespace), node, command, complain)


VERBS: tuple[click.Command, ...] = (shell,)
