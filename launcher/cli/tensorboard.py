"""The verb that shows runs in TensorBoard."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from .terminal import completion
from .terminal.options import cluster_option, namespace_option
from .terminal.screen import complain, say


@click.command("tensorboard", short_help="Show runs side by side in TensorBoard until Ctrl-C.")
@click.argument("names", metavar="[RUN]...", nargs=-1, shell_complete=completion.runs)
@click.option("--port", type=click.IntRange(1, 65535), default=6006, help="Port on this machine (default: 6006).")
@click.option(
    "--backend",
    type=click.Choice(["host", "docker"]),
    help="Where TensorBoard runs (default: host if it is installed here, else a container).",
)
@cluster_option
@namespace_option
def tensorboard(names: tuple[str, ...], port: int, backend: str | None, cluster: bool, namespace: str | None) -> int:
    """Show runs side by side in TensorBoard until Ctrl-C; without RUN, all runs.

    With --cluster: forward a port to the TensorBoard that k8s/ deploys beside the runs' claim. It shows all runs of a namespace.
    """
    from ..backends.tensorboard import serve, serve_cluster
    from ..experiment.files import read_env

    caller = read_env(Path.cwd())
    if not cluster and namespace is None:
        return serve(names, port, backend, caller, say)
    if names or backend is not None:
        raise UsageError("tensorboard --cluster shows all runs of a namespace: it takes neither RUN nor --backend")
    return serve_cluster(port, caller, namespace, say, complain)


VERBS: tuple[click.Command, ...] = (tensorboard,)
