"""Stopping one point of a sweep in one Job, whose controller would start a pod again that was deleted.

The key of its index in a ConfigMap asks every pod of the point to stop, also one that starts later. A file in the pod that runs
is faster: the kubelet shows a new key after about a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ....errors import LauncherError
from ....why import Pod
from ..api.cluster import ApiError, Cluster
from ..api.upsert import create_or_patch
from ..render.kinds import JOB
from ..render.template import template_of
from ..render.together import STOP_FILE, STOPS
from . import state
from .pods import is_running
from .point import pod_in
from .run import ClusterRun, of_point

_SHOWN: Final = 120  # seconds, at most, in which a kubelet shows a new key of a ConfigMap


def can_stop(obj: Mapping[str, Any]) -> bool:
    """Whether the pods of the Job ``obj`` look for stop files; those that an earlier version rendered do not."""
    return any(one["name"] == "stops" for one in template_of(obj)["spec"].get("volumes") or [])


def stop_point(cluster: Cluster, run: ClusterRun, obj: Mapping[str, Any], *, now: bool) -> int:
    """Asks the point ``run`` of the Job ``obj`` to write a checkpoint and end, and to stay stopped; ``now``: it is killed next.

    No other point is touched. Returns the seconds after which its pod sees that: 0, or where commands in pods are denied those in
    which the kubelet shows the key.
    """
    at = cluster.now().isoformat(timespec="seconds")
    keep_stopped(cluster, run, obj, at)
    kinds = (state.STOPPED, *((state.ABORTED,) if now else ()))
    there = obj["metadata"].get("annotations") or {}
    annotations = {name: there.get(name) or at for name in (of_point(kind, run.index) for kind in kinds)}
    cluster.patch(run.place, {"metadata": {"annotations": annotations}})
    if not now:  # only now: a pod that starts after this sees the key
        pods = [pod_in(run, one) for one in cluster.list(f"/api/v1/namespaces/{run.namespace}/pods", run.selector)]
        told = [_is_told(cluster, run, pod) for pod in filter(is_running, pods)]
        return 0 if all(told) else _SHOWN
    return 0


def _is_told(cluster: Cluster, run: ClusterRun, pod: Pod) -> bool:
    try:
        list(cluster.exec(pod.name, run.container, ["touch", STOP_FILE], run.namespace))
    except LauncherError:  # denied, or it ends just now
        return False
    return True


def keep_stopped(cluster: Cluster, run: ClusterRun, obj: Mapping[str, Any], at: str) -> None:
    """Adds the key, so that every pod of the point ``run`` of the Job ``obj`` ends without training."""
    collection, name = f"/api/v1/namespaces/{run.namespace}/configmaps", run.job + STOPS
    data = {str(run.index): at}
    try:
        cluster.patch(f"{collection}/{name}", {"data": data})
    except ApiError as error:
        if error.status != 404:
            raise
        owner = {"apiVersion": JOB.version, "kind": JOB.name, "name": run.job, "uid": run.uid}
        labels = {k: v for k, v in obj["metadata"]["labels"].items() if k.startswith(("app.kubernetes.io/", "dpo-launcher/"))}
        metadata = {"name": name, "namespace": run.namespace, "labels": labels, "ownerReferences": [owner]}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        create_or_patch(cluster, collection, made, {"data": data})
