"""Deleting what belongs to a run on a cluster: its Job or JobSet, what that owns, and what outlives one that was deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from ..api.cluster import Cluster
from ..api.errors import unless
from ..render.kinds import TRAINJOB
from ..render.names import label_value
from . import remembered
from .listed import listed
from .owner import delete_owner
from .run import ClusterRun

_OF_A_RUN: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=run"
_UNDER_WAY: Final = timedelta(minutes=10)  # in which a submit that has begun to create objects ends
# Trainer gives a TrainJob the end of any JobSet of its name: the name is taken until an earlier one's JobSet is gone.
_PROPAGATION: Final = {TRAINJOB.name: "Foreground"}


def removed(cluster: Cluster, run: ClusterRun) -> list[str]:
    """Deletes the run's objects; returns kind and name of each one that existed. The folder on the claim stays.

    Raises LauncherError if the run was started again since ``run`` was found.
    """
    found: list[str] = []
    with unless(404):
        if run.job:
            cluster.get(run.place)
            delete_owner(cluster, run, run.uid, propagation=_PROPAGATION.get(run.kind, "Background"))
            found.append(f"{run.kind} {run.job}")
    note = remembered.place(run)
    with unless(404):
        if run.job:
            cluster.get(note)
            cluster.delete(note)
            found.append(f"ConfigMap {note.rpartition('/')[2]}")
    return found + swept(cluster, run)


def swept(cluster: Cluster, run: ClusterRun) -> list[str]:
    """Deletes the run's Service and ConfigMaps, which outlive a Job for seconds, or where it was deleted without what it owns."""
    return [_deleted(cluster, kind, path, one) for kind, path, one in _of_run(cluster, run.namespace, run.name)]


def left_over(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Deletes what a submit of the run ``name`` left that was killed before it created the Job: Services and ConfigMaps that
    nothing owns. Returns kind and name of each."""
    found = list(_of_run(cluster, namespace, name))
    return [_deleted(cluster, kind, path, one) for kind, path, one in found if not one["metadata"].get("ownerReferences")]


def strays(cluster: Cluster, namespace: str) -> dict[str, list[str]]:
    """Run -> kind and name of each of its objects that nothing owns although it has no Job: what a submit left that was killed,
    or a Job that was deleted without them. Those of a submit that may still be under way do not count."""
    old = cluster.now() - _UNDER_WAY
    found: dict[str, list[str]] = {}
    for kind, _, one in _objects(cluster, namespace, _OF_A_RUN):
        metadata = one["metadata"]
        if not metadata.get("ownerReferences") and datetime.fromisoformat(metadata["creationTimestamp"]) < old:
            found.setdefault(metadata["labels"].get("dpo-launcher/run", ""), []).append(f"{kind} {metadata['name']}")
    if found:
        for run in listed(cluster, namespace, with_pods=False):
            found.pop(run.obj["metadata"]["labels"].get("dpo-launcher/run", ""), None)
    return found


def _deleted(cluster: Cluster, kind: str, path: str, obj: Mapping[str, Any]) -> str:
    with unless(409):  # it is gone, and another one has its name
        cluster.delete(path, uid=obj["metadata"].get("uid"))
    return f"{kind} {obj['metadata']['name']}"


def _of_run(cluster: Cluster, namespace: str, name: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(kind, path, object) of the Services and ConfigMaps of the run ``name``."""
    yield from _objects(cluster, namespace, f"{_OF_A_RUN},dpo-launcher/run={label_value(name)}")


def _objects(cluster: Cluster, namespace: str, selector: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for kind, plural in (("Service", "services"), ("ConfigMap", "configmaps")):
        collection = f"/api/v1/namespaces/{namespace}/{plural}"
        for one in cluster.list(collection, selector):
            yield kind, f"{collection}/{one['metadata']['name']}", one
