"""TensorBoard over the event folders of runs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from ..errors import LauncherError, UsageError
from ..run_dir import RunDir


def serve(runs: Sequence[RunDir], port: int) -> int:
    """Shows ``runs`` side by side until Ctrl-C; returns TensorBoard's exit code, 0 for Ctrl-C."""
    if not runs:
        raise UsageError("there is no run yet: `launcher run EXP` makes one")
    if find_spec("tensorboard") is None:
        raise LauncherError("TensorBoard is not installed: pip install 'dpo-launcher[trainer]'")
    # A folder of links: --logdir_spec would do, but it reads commas and colons in paths as its own.
    with tempfile.TemporaryDirectory(prefix="dpo-launcher-tensorboard-") as folder:
        for run in runs:
            (Path(folder) / run.name).symlink_to(run.tensorboard.resolve())
        click.echo(f"http://localhost:{port}/ shows {', '.join(run.name for run in runs)}; Ctrl-C ends it")
        return _serve(folder, port)


def _serve(folder: str, port: int) -> int:
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", f"--port={port}"])
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return 0
