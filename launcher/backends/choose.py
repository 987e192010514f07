"""Choosing the backend of a new run, and the backend that a run was started on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import UsageError
from ..experiment.files import read_env
from ..job.image import checkout
from ..packages import missing_packages
from ..runs.run_dir import RunDir
from .docker.backend import Docker
from .docker.engine import answers
from .host import Host

AnyBackend = Host | Docker


def choose_backend(wanted: str | None, cwd: Path, caller: Mapping[str, str], image: str | None) -> tuple[AnyBackend, str | None]:
    """The backend that ``--backend`` names; by default Docker if an engine answers, else the host.

    Outside a checkout the host is also chosen where the packages for training are installed, unless launch.image (``image``) is
    set: nothing needs to be pulled. The second value is the reason for the host, if nobody named a backend. Raises UsageError for
    kubernetes.
    """
    if wanted == "kubernetes":
        raise UsageError("--backend kubernetes: this command works on this machine only; use host or docker")
    if wanted == "host":
        return Host.here(cwd, caller), None
    if wanted == "docker":
        return Docker(cwd, caller), None
    why = answers(caller)
    if why is None and image is None and checkout() is None and not missing_packages():
        why = "dpo-launcher[trainer] is installed here; --backend docker uses the published image"
    if why is None:
        return Docker(cwd, caller), None
    return Host.here(cwd, caller), why


def backend_of(run: RunDir) -> AnyBackend:
    """The backend that ``run`` was started on."""
    if run.read_record().get("backend") == "docker":
        return Docker(Path.cwd(), read_env(Path.cwd()))
    return Host.here(Path.cwd(), os.environ)


def folders_of_containers() -> list[Path]:
    """The folders of this user's runs that have a container, in any directory; none if no engine answers."""
    caller = read_env(Path.cwd())
    return [] if answers(caller) is not None else Docker(Path.cwd(), caller).folders()
