"""The pods beside the runs, of Deployments that the launcher renders: why the reader, or a server of a model, does not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from ....errors import LauncherError
from ....why import Event, Evidence, Explanation, waiting
from ..api.cluster import Cluster
from ..render.names import deployment_of
from ..render.objects import QUEUE
from .pods import is_running, pod_of

READER: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=reader"
SERVERS: Final = "app.kubernetes.io/name=dpo-launcher-serve"
SERVES: Final = "dpo-launcher/serve"  # label with the name of what is served
CONTAINERS: Final = {"reader": "tensorboard", "server": "server"}
_ADMISSION: Final = "kueue.x-k8s.io/admission"  # the gate of a pod in a queue
DEPLOYMENT: Final = "dpo-tensorboard"  # of the reader, in k8s/base
# Setting of a run -> what is the same in the reader's Deployment.
_FIELDS: Final = {
    "launch.kubernetes.tolerations": "tolerations",
    "launch.kubernetes.node_selector": "nodeSelector",
    "launch.kubernetes.image_pull_secrets": "imagePullSecrets",
    "launch.kubernetes.run_as": "securityContext",
    "launch.kubernetes.volumes": "the claims",
    "launch.image": "the image",
    "launch.cpus": "resources",
    "launch.memory": "resources",
}


def explain(
    cluster: Cluster, namespace: str, pods: Sequence[Mapping[str, Any]], kind: str, deployment: str
) -> Explanation | None:
    """Why ``pods`` of ``deployment``, as the API gives them, do not run; None if one does, or if nothing shows it.

    ``kind``: reader or server.
    """
    seen = [pod_of(one, CONTAINERS[kind]) for one in pods]
    if any(is_running(pod) for pod in seen):
        return None
    evidence = Evidence(
        run=f"the {kind} pod",
        backend="kubernetes",
        state="starting",
        namespace=namespace,
        pods=tuple(seen),
        events=tuple(_events(cluster, namespace, [pod.name for pod in seen], deployment)),
        is_helper=True,
    )
    found = _queued(evidence, pods) or waiting(evidence) or _crashed(evidence)
    return found if found is None or kind != "reader" else _of_deployment(found, namespace)


def _of_deployment(why: Explanation, namespace: str) -> Explanation:
    """``why`` with advice about the Deployment of the reader, where it is about settings of runs, which that does not have."""
    fields = list(dict.fromkeys(field for setting, field in _FIELDS.items() if setting in why.suggestion))
    if not fields:
        return why
    edit = f"kubectl -n {namespace} edit deployment {DEPLOYMENT}"
    return replace(why, suggestion=f"set {', '.join(fields)} of its Deployment in your overlay of k8s/, or now with: {edit}")


def _queued(seen: Evidence, pods: Sequence[Mapping[str, Any]]) -> Explanation | None:
    """Kueue holds a pod of a queue back by a scheduling gate until there is quota."""
    for pod in pods:
        queue = pod["metadata"].get("labels", {}).get(QUEUE)
        if queue is not None and any(gate["name"] == _ADMISSION for gate in pod.get("spec", {}).get("schedulingGates", ())):
            see = f"{seen.kubectl} describe workloads"
            return Explanation("kueue-waiting", f"{seen.run} waits in queue {queue}", f"wait, or see why with: {see}")
    return None


def servers(cluster: Cluster, namespace: str, name: str) -> tuple[list[dict[str, Any]], str]:
    """(pods of the server ``name``, oldest first, its Deployment); ``name``: of the Deployment, or of the run that it serves."""
    found = [pod for pod in cluster.list(f"/api/v1/namespaces/{namespace}/pods", SERVERS) if name in _names(pod)]
    found.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
    return found, deployment_of(found[0]["metadata"]["labels"][SERVES]) if found else name


def _names(pod: Mapping[str, Any]) -> tuple[str, str]:
    served = str(pod["metadata"]["labels"].get(SERVES, ""))
    return served, deployment_of(served)


def _events(cluster: Cluster, namespace: str, pods: Sequence[str], deployment: str) -> Iterator[Event]:
    """The events of the pods, and of the Deployment's ReplicaSets if it has no pod; none where they cannot be read."""
    asked = [f"involvedObject.name={pod}" for pod in pods] or ["involvedObject.kind=ReplicaSet,reason=FailedCreate"]
    for fields in asked:
        with suppress(LauncherError):
            for one in cluster.list(f"/api/v1/namespaces/{namespace}/events", fieldSelector=fields):
                event = event_of(one)
                if pods or event.name.startswith(f"{deployment}-"):
                    yield event


def event_of(obj: Mapping[str, Any]) -> Event:
    """An event from the API; its time is that of its last occurrence."""
    about = obj.get("involvedObject") or {}
    series = obj.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        obj.get("lastTimestamp"),
        obj.get("eventTime"),
        obj["metadata"].get("creationTimestamp"),
    )
    return Event(
        kind=str(about.get("kind") or ""),
        name=str(about.get("name") or ""),
        reason=str(obj.get("reason") or ""),
        message=str(obj.get("message") or ""),
        time=str(next(filter(None, times), "")),
    )


def _crashed(seen: Evidence) -> Explanation | None:
    for pod in seen.newest:
        if pod.container is not None and pod.container.reason == "CrashLoopBackOff":
            look = f"see its last lines with: {seen.kubectl} logs {pod.name} --previous"
            return Explanation("crashes", f"{seen.run} ends again and again after its start", look)
    return None
