"""The GPU-hours of runs on a cluster, of all attempts: from pods that still exist, and from the records on the claim."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from ....runs.usage import gpu_hours, gpus_of, trained
from ....why import Pod
from ..api.errors import ExecError
from .archive import Archive
from .run import RUNS_ROOT, ClusterRun

_NAMED: Final = 20  # runs


def gpu_hours_of(run: ClusterRun, record: Mapping[str, Any], pods: Iterable[Pod], until: datetime | None) -> float | None:
    """By the record, or by the pods where they show more. Each may lack time that the other has: pods may be deleted, and a
    record begins when the run can write. ``until``: when an attempt without an end ended. None where neither knows."""
    known = (gpu_hours(gpus_of(record), trained(record, until)), gpu_hours(run.gpus, pod_seconds(pods)))
    return max((one for one in known if one is not None), default=None)


def pod_seconds(pods: Iterable[Pod], now: datetime | None = None) -> float | None:
    """The seconds that the containers of ``pods`` ran, summed; None if none of them has started."""
    spans = [_seconds(pod, now or datetime.now(UTC)) for pod in pods]
    known = [one for one in spans if one is not None]
    return sum(known) if known else None


def records(archive: Archive, folders: Sequence[PurePosixPath] | None = None) -> dict[PurePosixPath, dict[str, Any]]:
    """The folder of every run on the claim, relative to it -> the run's record, read at once. Raises NoReader.

    ``folders``: of these runs alone; above ``_NAMED`` all are read, because their names are part of a URL.
    """
    find = "find . -name 'checkpoint-*' -prune -o -regex '.*/runs/[^/]+/run[.]json' -print0"
    if folders is not None and len(folders) <= _NAMED:
        inside = [folder.relative_to(RUNS_ROOT) for folder in folders if folder.is_relative_to(RUNS_ROOT)]
        if not inside:
            return {}
        names = " ".join(shlex.quote(f"./{folder}/run.json") for folder in inside)
        find = f"printf '%s\\0' {names}"
    packed = _packed(archive, f"cd {RUNS_ROOT} && {find} | tar --null --files-from=- --ignore-failed-read -czf -")
    found: dict[PurePosixPath, dict[str, Any]] = {}
    if not packed:
        return found
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:*") as tar:
        for member in tar:
            file = tar.extractfile(member)
            with suppress(ValueError):
                record = json.load(file) if file is not None else None
                if isinstance(record, dict):
                    found[PurePosixPath(member.name).parent] = record
    return found


def _packed(archive: Archive, command: str) -> bytes:
    """What ``command`` prints, also if it exits with 1 or 2: tar does where a run replaces its record while it is read."""
    pieces: list[bytes] = []
    try:
        pieces += archive.stream(["sh", "-c", command])
    except ExecError as error:
        if error.code not in (1, 2):
            raise
    return b"".join(pieces)


def _seconds(pod: Pod, now: datetime) -> float | None:
    container = pod.container
    if container is None or not container.started:
        return None
    end = datetime.fromisoformat(container.ended) if container.ended else now
    return max(0.0, (end - datetime.fromisoformat(container.started)).total_seconds())
