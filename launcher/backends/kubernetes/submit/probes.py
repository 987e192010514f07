"""Dry runs that tell what no list shows: whether the server takes a pod, and whether an add-on works whose kinds it serves.

A server stores nothing of them. Rights to read controllers are not needed: their webhooks change what is created.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ....errors import LauncherError
from ....experiment.schema import Kubernetes
from ....why import Evidence, Explanation, refusal
from ..api.cluster import Cluster
from ..api.errors import ApiError
from ..follow.state import QUEUE
from ..render.pod import CONTAINER
from ..render.user import CONTAINER_SECURITY, pod_security
from .changes import changes

Obj = Mapping[str, Any]

_NAME: Final = "dpo-launcher-probe-"
_SMALL: Final = {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "1Gi"}  # within most LimitRanges
# As pods of a Job have it: many clusters refuse pods that nothing owns.
_OWNER: Final = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "name": "dpo-launcher-probe",
    "uid": "00000000-0000-0000-0000-000000000000",
    "controller": True,
}
_RIGHTS: Final = re.compile(r"cannot create resource ")
# A webhook may choose any status; a ValidatingAdmissionPolicy has 422 unless it names a reason.
_DENIED: Final = re.compile(r"denied (the )?request")


def small(annotations: Mapping[str, str]) -> dict[str, Any]:
    """The template of a small pod, as every namespace takes it that takes runs; ``annotations``: the namespace's."""
    container = {
        "name": CONTAINER,
        "image": "dpo-launcher",
        "resources": {"requests": _SMALL, "limits": _SMALL},
        "securityContext": CONTAINER_SECURITY,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": pod_security(Kubernetes(), annotations),
        "containers": [container],
    }
    return {"metadata": {}, "spec": spec}


@dataclass(frozen=True)
class Tried:
    """The answer to a dry run: ``refused`` in the server's words, None if it was taken; ``unseen``: why neither is known.
    ``added``: containers that webhooks put beside ours; not init containers, which do not outlive it. ``changed``: what webhooks
    and LimitRanges change of the pod.
    """

    refused: str | None = None
    unseen: str | None = None
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def try_pod(cluster: Cluster, namespace: str, template: Obj) -> Tried:
    """Whether the server's plugins take a pod like those of ``template``: its account, its classes, Pod Security, policies."""
    made = {"generateName": _NAME, "namespace": namespace, "ownerReferences": [_OWNER]}
    metadata = {**made, **(template.get("metadata") or {})}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    try:
        taken = cluster.create(f"/api/v1/namespaces/{namespace}/pods", pod, dry_run=True)
    except ApiError as error:
        if error.status == 403 and not is_no_right(error):
            return Tried(refused=error.message)
        if is_denied(error) or is_webhook_silent(error):
            return Tried(refused=error.message)
        return Tried(unseen="permission denied" if error.status == 403 else error.message)
    except LauncherError as error:
        return Tried(unseen=str(error))
    ours = {one["name"] for one in template["spec"]["containers"]}
    added = tuple(one["name"] for one in taken["spec"]["containers"] if one["name"] not in ours)
    return Tried(added=added, changed=tuple(changes(template["spec"], taken["spec"])))


def explained(tried: Tried, run: str, namespace: str) -> Explanation | None:
    """Why the pods of ``run`` would be refused, in the words of `launcher why`."""
    if tried.refused is None:
        return None
    return refusal(Evidence(run=run, backend="kubernetes", state="starting", namespace=namespace), tried.refused)


def has_jobset_controller(cluster: Cluster, namespace: str, template: Obj) -> bool | None:
    """Whether JobSet's webhook answers, which the process of its controller serves; None if that cannot be tried.

    The webhook always fills in ``successPolicy`` and ``startupPolicy``, for which the CRD has no default.
    """
    job = {"metadata": {}, "spec": _job(template)}
    made = _created(
        cluster,
        f"/apis/jobset.x-k8s.io/v1alpha2/namespaces/{namespace}/jobsets",
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"generateName": _NAME, "namespace": namespace},
            "spec": {"replicatedJobs": [{"name": "node", "replicas": 1, "template": job}]},
        },
    )
    return made if made is None or isinstance(made, bool) else bool({"successPolicy", "startupPolicy"} & made["spec"].keys())


def has_kueue_controller(cluster: Cluster, namespace: str, queue: str, template: Obj) -> bool | None:
    """Whether Kueue's webhook suspends a Job for ``queue``; None if that cannot be tried.

    False too where Kueue works and leaves this namespace or plain Jobs alone: a run would then start without waiting.
    """
    metadata = {"generateName": _NAME, "namespace": namespace, "labels": {QUEUE: queue}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": _job(template)}
    made = _created(cluster, f"/apis/batch/v1/namespaces/{namespace}/jobs", job)
    return made if made is None or isinstance(made, bool) else made["spec"].get("suspend") is True


def is_held(obj: Obj) -> bool:
    """Whether the cluster suspends what is created, although it is in no queue."""
    return (obj.get("spec") or {}).get("suspend") is True and QUEUE not in (obj["metadata"].get("labels") or {})


def _job(template: Obj) -> dict[str, Any]:
    return {"completionMode": "Indexed", "completions": 1, "parallelism": 1, "template": template}


def _created(cluster: Cluster, path: str, obj: Obj) -> dict[str, Any] | bool | None:
    """The object of a dry run; False if a webhook is registered that does not answer, None if it was refused otherwise."""
    try:
        return cluster.create(path, obj, dry_run=True)
    except ApiError as error:
        return False if is_webhook_silent(error) else None
    except LauncherError:
        return None


def is_no_right(error: ApiError) -> bool:
    """Whether the caller lacks the right to create the object. Policies, quotas and namespaces that end answer with 403, too."""
    return _RIGHTS.search(error.message) is not None


def is_denied(error: ApiError) -> bool:
    """Whether a webhook or a policy refused the object."""
    return _DENIED.search(error.message) is not None


def is_webhook_silent(error: ApiError) -> bool:
    """Whether the server could not ask a webhook, for example as no pod of it runs."""
    return error.status >= 500 and "failed calling webhook" in error.message
