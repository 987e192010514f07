"""The caller's files of certificates in a container. Pure, but for the question whether a file exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ...errors import ExperimentError, Mistake
from ...job.job import Job
from ..spec.container import certificates
from ..spec.trust import SETTING
from .paths import Mount

FOLDER: Final = "/dpo/ca"
_FILE: Final = f"{FOLDER}/ca.pem"  # of launch.ca_bundle, for every library


def mounted(job: Job, caller: Mapping[str, str], cwd: Path, exists: Callable[[Path], bool]) -> tuple[list[Mount], dict[str, str]]:
    """The mounts, and the variables that name the files there; raises ExperimentError for a file that is missing."""
    found = certificates(job, caller)
    if job.experiment.launch.ca_bundle is not None:
        return _bundle(found, cwd, exists)
    mounts: list[Mount] = []
    env: dict[str, str] = {}
    for name, value in found.items():
        paths = [cwd / path for path in value.split(":") if path] if name == "SSL_CERT_DIR" else [cwd / value]
        there = [path for path in paths if exists(path)]
        if not there:
            raise ExperimentError(_missing(name, value))
        targets = [f"{FOLDER}/{name}{f'-{n}' if n else ''}" for n in range(len(there))]
        mounts += [Mount(path, target, read_only=True) for path, target in zip(there, targets, strict=True)]
        env[name] = ":".join(targets)
    return mounts, env


def _bundle(names: Mapping[str, str], cwd: Path, exists: Callable[[Path], bool]) -> tuple[list[Mount], dict[str, str]]:
    """The one file of launch.ca_bundle; ``names``: the variables that name it -> its path, but those that launch.env sets."""
    paths = set(names.values())
    if not paths:
        return [], {}
    (path,) = paths
    if not exists(cwd / path):
        raise ExperimentError(_missing(SETTING, path))
    return [Mount(cwd / path, _FILE, read_only=True)], dict.fromkeys(names, _FILE)


def _missing(where: str, path: str) -> Mistake:
    return Mistake(where, f"{path} not found", "a file of this machine")
