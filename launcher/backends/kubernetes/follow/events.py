"""The events of a run: of its object, of what that made, and of its pods that are not well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ....why import Event, Pod
from ..api.cluster import Cluster
from ..api.errors import unless
from ..render.kinds import JOB, JOBSET, TRAINJOB, Kind
from ..render.names import REPLICATED
from .beside import event_of
from .pods import newest
from .run import ClusterRun

_ASKED: Final = 8  # unhealthy pods whose events are read


def events_of(
    cluster: Cluster, run: ClusterRun, obj: Mapping[str, Any], raw: Sequence[Mapping[str, Any]], pods: Sequence[Pod]
) -> Iterator[Event]:
    """The events about ``obj``, the object of ``run``, what its controllers made of it, and its unhealthy ``pods``; ``raw``: the
    pods from the API. They are found by uid: an earlier run may have had the same name. Raises as ``Cluster.list``."""
    uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in raw}
    unwell = [pod.name for pod in newest(pods) if pod.phase not in ("Running", "Succeeded")][:_ASKED]
    made = (uid for kind, name in _made(run) if (uid := _uid(cluster, run, kind, name)) is not None)
    for uid in (obj["metadata"]["uid"], *made, *(uids[name] for name in unwell)):
        at = f"/api/v1/namespaces/{run.namespace}/events"
        yield from map(event_of, cluster.list(at, fieldSelector=f"involvedObject.uid={uid}"))


def _made(run: ClusterRun) -> list[tuple[Kind, str]]:
    """What controllers make of the run's object: a TrainJob has a JobSet, and a JobSet one Job."""
    job = (JOB, f"{run.job}-{REPLICATED}-0")
    return {JOBSET.name: [job], TRAINJOB.name: [(JOBSET, run.job), job]}.get(run.kind, [])


def _uid(cluster: Cluster, run: ClusterRun, kind: Kind, name: str) -> str | None:
    with unless(404):
        return str(cluster.get(f"{kind.collection(run.namespace)}/{name}")["metadata"]["uid"])
    return None
