"""The caller's files of certificates in a container. Pure, but for the question whether a file exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ...errors import ExperimentError, Mistake
from ...job.job import Job
from ..container import certificates
from ..trust import SETTING
from .paths import Mount

FOLDER: Final = "/dpo/ca"


def mounted(job: Job, caller: Mapping[str, str], cwd: Path, exists: Callable[[Path], bool]) -> tuple[list[Mount], dict[str, str]]:
    """The mounts, and the variables that name the files there; raises ExperimentError for a file that is missing."""
    mounts: list[Mount] = []
    env: dict[str, str] = {}
    for name, value in certificates(job, caller).items():
        paths = [cwd / path for path in value.split(":") if path] if name == "SSL_CERT_DIR" else [cwd / value]
        there = [path for path in paths if exists(path)]
        if not there:
            where = name if job.experiment.launch.ca_bundle is None else SETTING
            raise ExperimentError(Mistake(where, f"{value} not found", "a file of this machine"))
        targets = [f"{FOLDER}/{name}{f'-{n}' if n else ''}" for n in range(len(there))]
        mounts += [Mount(path, target, read_only=True) for path, target in zip(there, targets, strict=True)]
        env[name] = ":".join(targets)
    return mounts, env
