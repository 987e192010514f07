"""TensorBoard in a container of the training image; the event folders of runs are mounted read-only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...job.image import Image
from ...runs.run_dir import RunDir
from .engine import translated
from .paths import Mount

_PORT: Final = 6006


@dataclass(frozen=True)
class TensorBoardSpec:
    """A server on ``port`` of this machine's loopback address."""

    image: Image
    mounts: tuple[Mount, ...]
    port: int
    user: str


def render(image: Image, runs: Mapping[str, RunDir], port: int) -> TensorBoardSpec:
    """``runs``: by the names that TensorBoard shows."""
    mounts = tuple(Mount(run.tensorboard.resolve(), f"/dpo/logs/{name}", read_only=True) for name, run in runs.items())
    return TensorBoardSpec(image, mounts, port, f"{os.getuid()}:{os.getgid()}")


def serve(client: Any, spec: TensorBoardSpec) -> int:
    """Serves until it ends or KeyboardInterrupt is raised, and removes the container. Returns the exit code, 0 for Ctrl-C."""
    from docker.types import Mount as Bind

    with translated("TensorBoard did not start"):
        container = client.containers.run(
            spec.image.reference,
            ["python", "-m", "tensorboard.main", "--logdir=/dpo/logs", "--host=0.0.0.0", f"--port={_PORT}"],
            detach=True,
            mounts=[Bind(m.target, str(m.source), type="bind", read_only=True) for m in spec.mounts],
            ports={f"{_PORT}/tcp": ("127.0.0.1", spec.port)},
            user=spec.user,
            environment={"HOME": "/tmp", "USER": "dpo", "NVIDIA_VISIBLE_DEVICES": "void"},
            tmpfs={"/tmp": "mode=1777"},
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            labels={"app.kubernetes.io/name": "dpo-launcher-tensorboard"},
        )
    try:
        return int(container.wait(timeout=None)["StatusCode"])
    except KeyboardInterrupt:
        return 0
    finally:
        container.remove(force=True, v=True)
