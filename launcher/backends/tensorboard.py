"""TensorBoard over the event folders of runs: on this machine where it is installed, else in the training image."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import LauncherError, UsageError, labelled
from ..packages import needs
from ..runs.finding import choose
from ..runs.run_dir import RunDir
from ..signals import sigterm_as_ctrl_c
from .status.finding import local_runs

if TYPE_CHECKING:
    from .kubernetes.api.cluster import Cluster

Say = Callable[[str], None]


def serve(names: Sequence[str], port: int, backend: str | None, caller: Mapping[str, str], say: Say) -> int:
    """Shows the runs ``names`` side by side until Ctrl-C, all of them where no name is given; ``say`` is told the address.

    Returns TensorBoard's exit code, 0 for Ctrl-C. ``backend``: host or docker; None is the host where TensorBoard is installed.
    Raises UsageError for an unknown run and for a port that is in use, LauncherError where TensorBoard cannot be started.
    """
    known = local_runs()
    runs = [choose(name, known) for name in names] if names else known
    if not runs:
        raise UsageError("no runs yet; start one with: launcher run EXP")
    _check_free(port)
    named = {name_of(run): run for run in runs}
    is_here = find_spec("tensorboard") is not None
    if backend == "host" and not is_here:
        raise LauncherError(f"{needs('tensorboard', ['tensorboard'])}\n    in a container: --backend docker")
    say(f"TensorBoard shows {', '.join(named)} at http://localhost:{port}/ (Ctrl-C stops it)")
    if is_here and backend != "docker":
        return _serve_here(named, port)
    return _serve_in_container(named, port, caller, say)


def serve_cluster(port: int, caller: Mapping[str, str], namespace: str | None, say: Say, complain: Say) -> int:
    """Shows the TensorBoard of a cluster's namespace on this machine until Ctrl-C; ``complain`` is told what goes wrong.

    Raises UsageError for a port that is in use, LauncherError where there is no cluster, or no TensorBoard on it.
    """
    from .kubernetes.api.cluster import Cluster
    from .kubernetes.follow.forward import Forward

    _check_free(port)
    cluster = Cluster.connect(caller, namespace)
    forward = Forward(cluster, cluster.namespace, port, complain)
    for line in not_shown(cluster, cluster.namespace):
        complain(line)
    say(f"TensorBoard shows the runs of namespace {cluster.namespace} at http://localhost:{port}/ (Ctrl-C stops it)")
    try:
        with sigterm_as_ctrl_c(), suppress(KeyboardInterrupt):
            forward.serve()
    finally:
        forward.close()
    return 0


def not_shown(cluster: Cluster, namespace: str) -> list[str]:
    """Runs whose pods have only disks of their own: the claim that TensorBoard reads has nothing of them."""
    from .kubernetes.follow.listed import listed

    with suppress(LauncherError):
        runs = [one.run for one in listed(cluster, namespace, with_pods=False) if one.run.copies is not None]
        if runs:
            names, first = ", ".join(run.name for run in runs[:3]), runs[0].name
            more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
            what = f"{names}{more}: not shown, as the files are in {runs[0].copies} and not on the claim"
            return [labelled(f"{what}; when it has ended: launcher download {first} --all, then launcher tensorboard ./{first}")]
    return []


def name_of(run: RunDir) -> str:
    """The name that TensorBoard shows: ``exp_<id>/<run>``."""
    return f"{run.shelf.parent.name}/{run.name}"


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"--port {port}: {reason}; try --port {port % 65535 + 1}") from error


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


def _serve_in_container(named: Mapping[str, RunDir], port: int, caller: Mapping[str, str], say: Say) -> int:
    from ..job.image import image_of
    from .docker import tensorboard
    from .docker.build import ensure
    from .docker.engine import connect

    client, image = connect(caller), image_of("cpu", caller)
    ensure(client, image, caller, say)
    with sigterm_as_ctrl_c():
        return tensorboard.serve(client, tensorboard.render(image, named, port))
