"""Deleting what belongs to a run on a cluster: its Job or JobSet, what that owns, and what outlives one that was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..api.cluster import Cluster
from ..api.errors import unless
from ..render.kinds import TRAINJOB
from ..render.names import label_value
from . import remembered
from .owner import delete_owner
from .run import ClusterRun

_OF_A_RUN: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=run"
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
    found = list[str]()
    for kind, path in leftovers(cluster, run):
        cluster.delete(path)
        found.append(f"{kind} {path.rpartition('/')[2]}")
    return found


def leftovers(cluster: Cluster, run: ClusterRun) -> Iterator[tuple[str, str]]:
    """(kind, path) of the run's Services and ConfigMaps."""
    for kind, plural in (("Service", "services"), ("ConfigMap", "configmaps")):
        collection = f"/api/v1/namespaces/{run.namespace}/{plural}"
        for one in cluster.list(collection, f"{_OF_A_RUN},dpo-launcher/run={label_value(run.name)}"):
            yield kind, f"{collection}/{one['metadata']['name']}"
