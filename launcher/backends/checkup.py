"""Checking this machine, or a cluster, for everything that runs need."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, LauncherError
from ..experiment.files import read_files
from ..experiment.yaml_nodes import data
from ..job.image import image_of, variant_of
from ..packages import installation, missing_packages
from ..runs.cache import cache_root
from ..why import doctor
from ..why.doctor import Checkup, Finding
from .docker.build import find
from .docker.engine import answers, connect
from .host import gpus_there


def check_machine(cwd: Path, caller: Mapping[str, str]) -> Checkup:
    """``caller`` is the environment with ``.env`` in it; experiment files are those below ``cwd``."""
    return Checkup(tuple(_of_machine(cwd, caller, _needed_secrets(cwd))))


def check_cluster(caller: Mapping[str, str], namespace: str | None) -> Checkup:
    """``namespace``: None for that of the kubeconfig's context. A cluster that cannot be reached is one finding."""
    from .kubernetes.api.cluster import Cluster, ClusterError
    from .kubernetes.submit.checkup import look

    try:
        return Checkup(tuple(look(Cluster.connect(caller, namespace))))
    except ClusterError as error:
        reason, *rest = str(error).splitlines()
        hint = next((line.partition("hint:")[2].strip() for line in rest if "hint:" in line), None)
        return Checkup((Finding("cluster", "missing", reason, hint or "kubectl config get-contexts"),))


def _needed_secrets(cwd: Path) -> dict[str, list[str]]:
    """Experiment -> the secrets that it names, of every experiment below ``cwd``, whatever else is wrong with it."""
    try:
        found = read_files(cwd).found
    except ExperimentError:  # no experiment file: no secret is needed
        return {}
    named = {}
    for one in found:
        values = data(one.node)
        launch, notify = values.get("launch"), values.get("notify")
        secrets = launch.get("secrets") if isinstance(launch, dict) else None
        named[one.key] = [str(name) for name in secrets] if isinstance(secrets, list) else []
        if isinstance(notify, str) and "://" not in notify:
            named[one.key].append(notify)
    return named


def _of_machine(cwd: Path, caller: Mapping[str, str], needed: Mapping[str, list[str]]) -> list[Finding]:
    missing = missing_packages()
    reason = answers(caller)
    client = _client(caller) if reason is None else None
    count = gpus_there(caller)
    image = image_of(variant_of(count), caller)
    is_there = None if client is None else find(client, image.reference) is not None
    install = installation()
    runtimes = None if client is None else list(client.info().get("Runtimes") or {})
    return [
        doctor.host_packages(missing, install.cuda if count else install.cpu, has_engine=client is not None),
        doctor.engine(reason, has_packages=not missing),
        doctor.image(image.reference, is_built=image.build is not None, is_there=is_there),
        *doctor.gpus(count, engine_runtimes=runtimes),
        doctor.disk("disk", str(cwd), shutil.disk_usage(cwd).free),
        *_of_cache(cwd, cache_root(caller)),
        *doctor.secrets(needed, [name for name, value in caller.items() if value]),
    ]


def _client(caller: Mapping[str, str]) -> Any:
    try:
        return connect(caller)
    except LauncherError:  # it answered a ping, and no more
        return None


def _of_cache(cwd: Path, cache: Path) -> list[Finding]:
    """The cache's disk, where it is another one."""
    there = next((folder for folder in (cache, *cache.parents) if folder.is_dir()), cwd)
    if there.stat().st_dev == cwd.stat().st_dev:
        return []
    return [doctor.disk("cache", str(cache), shutil.disk_usage(there).free)]
