"""What runs have taken, by user or experiment: those of this machine, or those of a cluster's namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...errors import Warned
from ...runs.known import Known
from ...runs.usage import Usage, gpu_hours, gpus_of, trained, usage
from .cluster import known_listed
from .finding import cluster_of
from .state import local_runs_known

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from ..kubernetes.backend import Kubernetes
    from ..kubernetes.follow.listed import Listed


@dataclass(frozen=True)
class Used:
    """``rows``: one for each user or experiment, the largest first; ``notices``: what is not counted."""

    rows: tuple[Usage, ...]
    notices: tuple[str, ...] = ()


def local_usage(key: str) -> Used:
    """Of the runs of this machine, by ``key``: user or experiment."""
    return Used(tuple(usage(local_runs_known(), key)))


def cluster_usage(caller: Mapping[str, str], namespace: str | None, key: str) -> Used:
    """Of the cluster's namespaces: runs that have a Job, and those whose Job is gone and whose record a reader pod can read."""
    from ..kubernetes.api.cluster import ApiError

    kubernetes, namespaces = cluster_of(caller, namespace)
    runs: list[Known] = []
    notices: list[str] = []
    for name in namespaces:
        try:
            found, unread = _used(kubernetes, name)
        except ApiError as error:
            if name == namespaces[0] or error.status not in (403, 404):
                raise
            continue
        runs += found
        if unread is not None:
            what = "pods that were deleted and runs whose Job is gone are not counted"
            notices.append(Warned(f"the records in namespace {name} cannot be read ({unread}): {what}"))
    return Used(tuple(usage(runs, key)), tuple(notices))


def _used(kubernetes: Kubernetes, namespace: str) -> tuple[list[Known], str | None]:
    """The runs of a namespace, and why their records could not be read, or None."""
    from ..kubernetes.api.cluster import ApiError
    from ..kubernetes.follow.archive import Archive, NoReader
    from ..kubernetes.follow.listed import pods_by_owner
    from ..kubernetes.follow.usage import records

    listed, pods = kubernetes.runs(namespace, with_pods=False), pods_by_owner(kubernetes.cluster, namespace)
    try:
        read, unread = records(Archive(kubernetes.cluster, namespace)), None
    except NoReader:
        read, unread = {}, "no TensorBoard pod runs"
    except ApiError as error:
        read, unread = {}, "permission denied" if error.status == 403 else error.message
    found = [_with_job(replace(one, pods=pods.get(one.run.selector, [])), read.pop(one.run.folder, {})) for one in listed]
    return [*found, *(_gone(folder, record, namespace) for folder, record in read.items())], unread


def _with_job(one: Listed, record: Mapping[str, Any]) -> Known:
    from ..kubernetes.follow.usage import gpu_hours_of, pod_seconds

    known = known_listed(one)
    until = _time(known.ended) if known.is_over else datetime.now(UTC)
    seconds = trained(record, until) or (pod_seconds(one.pods) or 0.0) / one.run.nodes
    return replace(known, trained_seconds=seconds, gpu_hours=gpu_hours_of(one.run, record, one.pods, until))


def _gone(folder: PurePosixPath, record: Mapping[str, Any], namespace: str) -> Known:
    """A run whose Job is deleted, by its record."""
    from ..kubernetes.follow.archive import run_of
    from ..kubernetes.follow.stored import Stored

    known = known_listed(Stored(run_of(namespace, folder, record), record))
    seconds = trained(record, _time(known.ended))
    return replace(known, trained_seconds=seconds, gpu_hours=gpu_hours(gpus_of(record), seconds))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
