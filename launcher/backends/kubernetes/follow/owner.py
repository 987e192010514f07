"""The object of a run on a cluster: its Job, JobSet or TrainJob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import LauncherError
from ..api.cluster import ApiError, Cluster
from ..api.errors import unless
from ..render.kinds import JOBSET, TRAINJOB
from .point import part_of
from .run import ClusterRun


def owner_of(cluster: Cluster, run: ClusterRun) -> Mapping[str, Any] | None:
    """None if it is deleted. A point of a sweep has its part of the Job, a TrainJob the number of restarts of its JobSet."""
    if not run.job:
        return None
    found: dict[str, Any] | None = None
    with unless(404):
        found = cluster.get(run.place)
    if found is None or run.kind != TRAINJOB.name:
        return None if found is None else part_of(run, found)
    with unless(403, 404):  # it is made, or it is over and its time is up
        jobset = cluster.get(f"{JOBSET.collection(run.namespace)}/{run.job}")
        restarts = (jobset.get("status") or {}).get("restarts") or 0
        return {**found, "status": {**(found.get("status") or {}), "restarts": restarts}} if restarts else found
    return found


def delete_owner(cluster: Cluster, run: ClusterRun, uid: str, *, propagation: str = "Background") -> None:
    """Deletes the run's object that was looked at; raises LauncherError if another one has its name by now."""
    try:
        cluster.delete(run.place, propagation=propagation, uid=uid)
    except ApiError as error:
        if error.status != 409:
            raise
        raise LauncherError(
            f"{run.name} was restarted by someone else just now: its {run.kind} is new and was not touched\n"
            f"    hint:     see who with: launcher status {run.name}"
        ) from error
