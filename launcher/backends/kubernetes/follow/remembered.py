"""Pods that failed or were taken away, remembered in a ConfigMap that no Job owns: a cluster forgets them with their Job, after a
drain at once, and only it knows that a pod was evicted or exceeded its memory. Whoever looks at a run leaves this note."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Final

from ....why import Condition, Container, Pod
from ..api.cluster import ApiError, Cluster
from ..render.names import label_value
from .run import ClusterRun

_KEPT: Final = 32  # pods
_MESSAGE: Final = 2048  # characters of a message


def remembered(cluster: Cluster, run: ClusterRun) -> list[Pod]:
    """The pods, oldest first; none where there is no note, or permission is denied."""
    if not run.job or run.index is not None:
        return []
    with suppress(ApiError):
        data: Mapping[str, str] = cluster.get(place(run)).get("data") or {}
        pods = [pod for text in data.values() if (pod := _pod(text)) is not None]
        return sorted(pods, key=lambda pod: (pod.created, pod.name))
    return []


def remember(cluster: Cluster, run: ClusterRun, pods: Iterable[Pod]) -> None:
    """Adds those of ``pods`` that failed or are being taken away; a note that cannot be written is left out."""
    new = {pod.name: pod for pod in pods if pod.phase == "Failed" or _is_taken(pod)}
    if not new or not run.job or run.index is not None:  # the note of a Job with all points of a sweep would mix them
        return
    before = {pod.name: pod for pod in remembered(cluster, run)}
    if all(before.get(name) == _short(pod) for name, pod in new.items()):
        return
    kept = sorted({**before, **new}.values(), key=lambda pod: pod.created)[-_KEPT:]
    data: dict[str, str | None] = {pod.name: json.dumps(asdict(_short(pod))) for pod in kept}
    data |= {name: None for name in before if name not in data}
    with suppress(ApiError):
        if before:
            cluster.patch(place(run), {"data": data})
        else:
            cluster.create(place(run).rpartition("/")[0], _note(run, data))


def place(run: ClusterRun) -> str:
    """The path of the note in the API."""
    return f"/api/v1/namespaces/{run.namespace}/configmaps/{run.job}-ends"


def _note(run: ClusterRun, data: Mapping[str, Any]) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": "dpo-launcher",
        "app.kubernetes.io/managed-by": "dpo-launcher",
        "app.kubernetes.io/component": "ends",
        "dpo-launcher/run": label_value(run.name),
    }
    metadata = {"name": f"{run.job}-ends", "namespace": run.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}


def _is_taken(pod: Pod) -> bool:
    found = pod.condition("DisruptionTarget")
    return found is not None and found.is_true


def _short(pod: Pod) -> Pod:
    """The pod as it is when it is gone: one that was taken away has failed."""
    own = pod.container
    message = "" if own is None else own.message[-_MESSAGE:] if own.said else own.message[:_MESSAGE]
    container = None if own is None else replace(own, message=message)
    return replace(pod, phase="Failed", message=pod.message[:_MESSAGE], container=container, is_deleted=False)


def _pod(text: str) -> Pod | None:
    """None for a note that another version of the launcher wrote in another form, or that a person has changed."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(text)
        container = found.pop("container")
        conditions = tuple(Condition(**one) for one in found.pop("conditions"))
        return Pod(**found, conditions=conditions, container=None if container is None else Container(**container))
    return None
