"""Listed: the runs of a namespace, from a few list requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ....why import Pod
from ... import Status
from ..api.cluster import ApiError, Cluster
from ..render.kinds import JOB, JOBSET, TRAINJOB, Kind, trains
from ..render.together import INDEX
from . import state
from .pods import pod_of
from .point import part_of
from .run import ClusterRun

_SELECTOR: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=run"
_BESIDE_JOBS: Final = (JOBSET, TRAINJOB)  # of add-ons


@dataclass(frozen=True)
class Listed:
    """A run in a list of runs. ``pods`` are those that have not succeeded."""

    run: ClusterRun
    obj: Mapping[str, Any] = field(repr=False)
    pods: Sequence[Pod] = field(repr=False)

    @property
    def status(self) -> Status:
        return state.state(self.obj, self.pods, self.run.nodes)

    @property
    def ended(self) -> str | None:
        return state.ended_at(self.obj) if self.status.is_over else None


def listed(cluster: Cluster, namespace: str, *, with_pods: bool) -> list[Listed]:
    """Every run that has a Job, JobSet or TrainJob, newest first, from a list request for each kind, and one for pods."""
    objects = list(cluster.list(JOB.collection(namespace), _SELECTOR))
    objects += [one for kind in _BESIDE_JOBS for one in _of_addon(cluster, kind, namespace)]
    objects = [one for one in objects if not one["metadata"].get("ownerReferences")]  # a JobSet's Jobs, a TrainJob's JobSet
    pods = pods_by_owner(cluster, namespace, "status.phase!=Succeeded") if with_pods and objects else {}
    runs = [(run, obj) for obj in objects for run in ClusterRun.every(obj)]
    alone = {run.name for run, _ in runs if run.index is None}  # also points that were resumed in a Job of their own
    runs = [(run, obj) for run, obj in runs if run.index is None or run.name not in alone]
    found = [Listed(run, part_of(run, obj), pods.get(run.selector, []) if run.has_pods else []) for run, obj in runs]
    return sorted(found, key=lambda one: (one.run.created, one.run.name), reverse=True)


def _of_addon(cluster: Cluster, kind: Kind, namespace: str) -> list[dict[str, Any]]:
    """The objects of a kind; none if the cluster does not serve it, or permission is denied."""
    try:
        return list(cluster.list(kind.collection(namespace), _SELECTOR))
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return []


def pods_by_owner(cluster: Cluster, namespace: str, fields: str | None = None) -> dict[str, list[Pod]]:
    """The pods of runs that fit the selector ``fields``, by the selector of their run."""
    found: dict[str, list[Pod]] = {}
    for obj in cluster.list(f"/api/v1/namespaces/{namespace}/pods", _SELECTOR, fieldSelector=fields):
        labels = obj["metadata"].get("labels") or {}
        for label in (JOBSET.pods, JOB.pods):
            if label in labels:
                selector, pod = f"{label}={labels[label]}", pod_of(obj, trains(obj))
                found.setdefault(selector, []).append(pod)
                found.setdefault(f"{selector},{INDEX}={pod.index}", []).append(replace(pod, index=0))  # a point's
                break
    return found
