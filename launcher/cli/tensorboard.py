"""TensorBoard over the event folders of runs: on this machine where it is installed, else in the training image."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import click

from ..errors import LauncherError, UsageError
from ..runs.run_dir import RunDir


def serve(runs: Sequence[RunDir], port: int, backend: str | None, caller: Mapping[str, str]) -> int:
    """Shows ``runs`` side by side until Ctrl-C; returns TensorBoard's exit code, 0 for Ctrl-C.

    ``backend`` is host or docker; None is the host where TensorBoard is installed. Raises UsageError for a port that is taken.
    """
    if not runs:
        raise UsageError("there is no run yet: `launcher run EXP` makes one")
    _check_free(port)
    named = {name_of(run): run for run in runs}
    is_here = find_spec("tensorboard") is not None
    if backend == "host" and not is_here:
        raise LauncherError("TensorBoard is not installed: pip install 'dpo-launcher[trainer]', or --backend docker")
    click.echo(f"http://localhost:{port}/ shows {', '.join(named)}; Ctrl-C ends it")
    if is_here and backend != "docker":
        return _serve_here(named, port)
    from ..backends.docker import tensorboard
    from ..backends.docker.build import ensure
    from ..backends.docker.engine import connect
    from ..job.image import image_of

    client, image = connect(caller), image_of("cpu", caller)
    ensure(client, image, caller, click.echo)
    return tensorboard.serve(client, tensorboard.render(image, named, port))


def serve_cluster(caller: Mapping[str, str], namespace: str | None, port: int) -> int:
    """Shows the TensorBoard of a cluster's namespace on this machine until Ctrl-C.

    Raises UsageError for a port that is taken, LauncherError where there is no cluster, or no TensorBoard on it.
    """
    from ..backends.kubernetes.api.cluster import Cluster
    from ..backends.kubernetes.follow.forward import Forward

    _check_free(port)
    cluster = Cluster.connect(caller, namespace)
    forward = Forward(cluster, cluster.namespace, port, lambda words: click.echo(words, err=True))
    click.echo(f"http://localhost:{port}/ shows the runs of namespace {cluster.namespace}; Ctrl-C ends it")
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        forward.serve()
    except KeyboardInterrupt:
        return 0
    finally:
        forward.close()
        signal.signal(signal.SIGTERM, before)
    return 0


def name_of(run: RunDir) -> str:
    """What a person tells runs apart by: ``exp_<id>/<run>``."""
    return f"{run.shelf.parent.name}/{run.name}"


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror}; another one, as --port {port % 65535 + 1}?") from error


def _serve_here(named: Mapping[str, RunDir], port: int) -> int:
    # A folder of links: --logdir_spec would do, but it reads commas and colons in paths as its own.
    with tempfile.TemporaryDirectory(prefix="dpo-launcher-tensorboard-") as folder:
        for name, run in named.items():
            link = Path(folder, name)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(run.tensorboard.resolve())
        server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", f"--port={port}"])
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
