"""Checking this machine, or a cluster, for everything that runs need."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, LauncherError
from ..experiment.files import read_files
from ..experiment.text.yaml_nodes import data
from ..job.image import image_of, variant_of
from ..packages import installation, missing_packages
from ..runs.cache import cache_root
from ..runs.finding import newest_first, output_dirs
from ..why import machine
from ..why.doctor import DEMO, Checkup, Finding, Work, then_here, then_there
from .docker.build import find
from .docker.engine import answers, connect
from .host import gpus_there


def check_machine(cwd: Path, caller: Mapping[str, str]) -> Checkup:
    """``caller`` is the environment with ``.env`` in it; experiment files are those below ``cwd``."""
    missing = missing_packages()
    found = tuple(_of_machine(cwd, caller, _needed_secrets(cwd), missing))
    return Checkup(found, then_here(_work(cwd), has_packages=not missing))


def check_cluster(cwd: Path, caller: Mapping[str, str], namespace: str | None) -> Checkup:
    """``namespace``: None for that of the kubeconfig's context. A cluster that cannot be reached is one finding."""
    from .kubernetes.api.cluster import Cluster, ClusterError
    from .kubernetes.submit.checkup import look

    then = then_there(_work(cwd))
    try:
        return Checkup(tuple(look(Cluster.connect(caller, namespace))), then)
    except ClusterError as error:
        reason, *rest = str(error).splitlines()
        hint = next((line.partition("hint:")[2].strip() for line in rest if "hint:" in line), None)
        return Checkup((Finding("cluster", "missing", reason, hint or "kubectl config get-contexts"),), then)


def _work(cwd: Path) -> Work:
    """What the folder ``cwd`` has to train."""
    try:
        contents = read_files(cwd)
    except ExperimentError:  # no experiment file
        return Work()
    runs = newest_first(output_dirs(cwd))
    is_demo_done = any(run.read_record().get("key") == DEMO for run in runs)
    return Work(tuple(one.key for one in contents.found), bool(contents.mistakes), is_demo_done)


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


def _of_machine(cwd: Path, caller: Mapping[str, str], needed: Mapping[str, list[str]], missing: Sequence[str]) -> list[Finding]:
    reason = answers(caller)
    client = _client(caller) if reason is None else None
    count = gpus_there(caller)
    image = image_of(variant_of(count), caller)
    is_there = None if client is None else find(client, image.reference) is not None
    install = installation()
    runtimes = None if client is None else list(client.info().get("Runtimes") or {})
    return [
        machine.host_packages(missing, install.cuda if count else install.cpu, has_engine=client is not None),
        machine.engine(reason),
        machine.image(image.reference, is_built=image.build is not None, is_there=is_there),
        *machine.gpus(count, engine_runtimes=runtimes),
        machine.disk("disk", str(cwd), shutil.disk_usage(cwd).free),
        *_of_cache(cwd, cache_root(caller)),
        *machine.secrets(needed, [name for name, value in caller.items() if value]),
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
    return [machine.disk("cache", str(cache), shutil.disk_usage(there).free)]
