"""The parts of a control plane and of kubelets, step by step, as a test wants them: functions on the emulator's objects."""

from __future__ import annotations

import copy
import itertools
from datetime import UTC, datetime
from typing import Any

from . import ClusterApi
from .refusal import Refusal
from .store import Change

Object = dict[str, Any]
_NUMBERS = itertools.count(1)
_ALIVE = ("Pending", "Running")  # phases of pods that a Job counts as active


def make_pods(api: ClusterApi, job: str, namespace: str = "default", *, node: str | None = "node-1") -> list[str]:
    """The pods of a Job as the controller makes them: one an index that has none which lives; returns the names of all new ones.

    They are scheduled to ``node``, or to none. A pod that the server refuses is an event of the Job instead.
    """
    obj = api.objects.get("jobs", job, namespace)
    made = list[str]()
    there = {index_of(pod) for pod in pods_of(api, job, namespace) if pod["status"].get("phase") not in ("Failed", "Succeeded")}
    for index in _wanted(obj, there):
        if index not in there and (name := _make_pod(api, obj, index, node)) is not None:
            made.append(name)
    api.objects.change("jobs", job, lambda one: one.setdefault("status", {}).update(active=len(there) + len(made)), namespace)
    return made


def _wanted(job: Object, alive: set[int]) -> list[int]:
    """The indexes that may have a pod now: those that live, then the lowest ones that are not over."""
    spec, status = job["spec"], job.get("status") or {}
    if spec.get("backoffLimitPerIndex") is None:
        return list(range(spec.get("parallelism", 1)))
    over = {index for key in ("completedIndexes", "failedIndexes") for index in _numbers(status.get(key, ""))}
    waiting = [index for index in range(spec["completions"]) if index not in over | alive]
    return [*alive, *waiting[: spec["parallelism"] - len(alive)]]


def count_indexes(api: ClusterApi, job: str, namespace: str = "default") -> None:
    """What the controller does with the pods of an Indexed Job with backoffLimitPerIndex: it lists the indexes that are over,
    ends the Job where all are, and makes the pods that may run now."""
    obj = api.objects.get("jobs", job, namespace)
    spec, pods = obj["spec"], pods_of(api, job, namespace)
    done = {index_of(pod) for pod in pods if pod["status"].get("phase") == "Succeeded"}
    failures: dict[int, int] = {}
    failed, counted = set[int](), 0
    for pod in (one for one in pods if one["status"].get("phase") == "Failed"):
        action = _action(spec, pod)
        counted += action != "Ignore"
        failures[index_of(pod)] = failures.get(index_of(pod), 0) + (action == "Count")
        if action == "FailIndex" or failures[index_of(pod)] > spec["backoffLimitPerIndex"]:
            failed.add(index_of(pod))
    lists = {"completedIndexes": done, "failedIndexes": failed}
    told: Object = {key: intervals(those) for key, those in lists.items() if those}
    told |= {"succeeded": len(done), "failed": counted, "active": sum(pod["status"].get("phase") in _ALIVE for pod in pods)}
    api.objects.change("jobs", job, lambda one: one.setdefault("status", {}).update(told), namespace)
    if len(done | failed) < spec["completions"]:
        if not spec.get("suspend"):
            make_pods(api, job, namespace)
    elif failed:
        fail(api, job, "FailedIndexes", "Job has failed indexes", namespace)
    else:
        complete(api, job, namespace)


def intervals(indexes: set[int]) -> str:
    """As a Job's status lists indexes: ``0,1`` and ``0-2``."""
    groups: list[list[int]] = []
    for index in sorted(indexes):
        if groups and groups[-1][-1] == index - 1:
            groups[-1].append(index)
        else:
            groups.append([index])
    return ",".join(f"{one[0]}-{one[-1]}" if len(one) > 2 else ",".join(map(str, one)) for one in groups)


def _numbers(text: str) -> list[int]:
    ends = [[int(end) for end in part.split("-")] for part in filter(None, text.split(","))]
    return [index for end in ends for index in range(end[0], end[-1] + 1)]


def _action(spec: Object, pod: Object) -> str:
    """The action of the first rule of the Job's podFailurePolicy that fits a failed pod."""
    ended = [one["state"]["terminated"]["exitCode"] for one in pod["status"].get("containerStatuses") or []]
    there = {(one["type"], one["status"]) for one in pod["status"].get("conditions") or []}
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or []:
        codes = (rule.get("onExitCodes") or {}).get("values") or []
        wanted = {(one["type"], one.get("status", "True")) for one in rule.get("onPodConditions") or []}
        if set(ended) & set(codes) or there & wanted:
            return str(rule["action"])
    return "Count"


def pods_of(api: ClusterApi, job: str, namespace: str = "default") -> list[Object]:
    """The pods of a Job, or of a JobSet, in the order of their names."""
    keys = ("batch.kubernetes.io/job-name", "jobset.sigs.k8s.io/jobset-name")
    pods = api.objects.list("pods", namespace)
    return [pod for pod in pods if job in {(pod["metadata"].get("labels") or {}).get(key) for key in keys}]


def waiting(api: ClusterApi, pod: str, reason: str = "ContainerCreating", message: str = "", namespace: str = "default") -> None:
    """The pod's container does not start yet: its image is pulled, or cannot be."""
    state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    _pod(api, pod, namespace, "Pending", state)


def running(api: ClusterApi, pod: str, namespace: str = "default") -> None:
    """The pod's container runs."""
    _pod(api, pod, namespace, "Running", {"running": {"startedAt": now()}}, ready=True)


def terminated(
    api: ClusterApi, pod: str, code: int, reason: str | None = None, message: str = "", namespace: str = "default"
) -> None:
    """The pod's container has ended with ``code``; ``message`` is its termination message. Its log ends.

    Without a message, and with the policy FallbackToLogsOnError, the kubelet takes the end of the log of one that failed.
    """
    message = message or (_end_of_log(api, pod, namespace) if code else "")
    why = reason or ("Completed" if code == 0 else "Error")
    state = {"terminated": {"exitCode": code, "reason": why, "startedAt": now(), "finishedAt": now()}}
    state["terminated"] |= {"message": message} if message else {}
    _pod(api, pod, namespace, "Succeeded" if code == 0 else "Failed", state)
    for (there, name, _), log in list(api.logs.items()):
        if (there, name) == (namespace, pod):
            log.end()


def _end_of_log(api: ClusterApi, pod: str, namespace: str) -> str:
    """The last 80 lines, of which the last 2048 bytes."""
    (container, *_) = api.objects.get("pods", pod, namespace)["spec"]["containers"]
    log = api.logs.get((namespace, pod, container["name"]))
    if log is None or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        return ""
    return b"".join(log.select(since=None, tail=80, stamped=False))[-2048:].decode("utf-8", "replace")


def disrupt(api: ClusterApi, pod: str, reason: str, message: str = "", namespace: str = "default") -> None:
    """The pod is about to be taken away: EvictionByEvictionAPI (a drain), PreemptionByScheduler, DeletionByTaintManager, …"""
    condition(api, "pods", pod, "DisruptionTarget", "True", reason, message, namespace)


def expire(api: ClusterApi, job: str, namespace: str = "default") -> None:
    """The TTL controller: deletes a Job that has ended, and all that it owns."""
    obj = api.objects.get("jobs", job, namespace)
    ended = [one for one in obj["status"].get("conditions") or [] if one["type"] in ("Complete", "Failed")]
    assert ended, "a Job that has not ended stays"
    api.objects.delete("jobs", job, namespace)


def an_hour_passes(api: ClusterApi, namespace: str = "default") -> None:
    """The API server keeps no event longer."""
    for name in api.objects.names("events", namespace):
        api.objects.delete("events", name, namespace)


def unschedulable(api: ClusterApi, pod: str, message: str, namespace: str = "default") -> None:
    """The scheduler found no node for the pod."""
    api.objects.change("pods", pod, lambda one: one.setdefault("status", {}).update(phase="Pending"), namespace)
    condition(api, "pods", pod, "PodScheduled", "False", "Unschedulable", message, namespace)


def evicted(api: ClusterApi, pod: str, message: str, namespace: str = "default") -> None:
    """The kubelet has evicted the pod."""
    api.objects.change(
        "pods", pod, lambda one: one["status"].update(phase="Failed", reason="Evicted", message=message), namespace
    )


def condition(
    api: ClusterApi,
    plural: str,
    name: str,
    kind: str,
    status: str = "True",
    reason: str = "",
    message: str = "",
    namespace: str = "default",
) -> None:
    """Sets one condition of an object's status."""
    said = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}

    def edit(obj: Object) -> None:
        conditions = obj.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [one for one in conditions if one["type"] != kind] + [said]

    api.objects.change(plural, name, edit, namespace)


def complete(api: ClusterApi, job: str, namespace: str = "default") -> None:
    """The Job is done."""
    condition(api, "jobs", job, "Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods", namespace)


def fail(api: ClusterApi, job: str, reason: str = "BackoffLimitExceeded", message: str = "", namespace: str = "default") -> None:
    """The Job has failed."""
    condition(api, "jobs", job, "Failed", "True", reason, message or "Job has reached the specified backoff limit", namespace)


def event(
    api: ClusterApi,
    obj: Object,
    reason: str,
    message: str,
    kind: str = "Warning",
    count: int = 1,
    at: str | None = None,
    source: str = "kubelet",
) -> None:
    """An event about ``obj``."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "default")
    involved = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "name": metadata["name"], "uid": metadata["uid"]}
    api.objects.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{next(_NUMBERS):016x}", "namespace": namespace},
            "involvedObject": involved | {"namespace": namespace},
            "reason": reason,
            "message": message,
            "type": kind,
            "count": count,
            "firstTimestamp": at or now(),
            "lastTimestamp": at or now(),
            "source": {"component": source},
        }
    )


def play(api: ClusterApi, labels: dict[str, str] | None = None) -> None:
    """From now on a Job (with these labels) gets running pods as soon as it is created or resumed, and loses them when it is
    suspended."""

    def react(change: Change) -> None:
        job = change.after
        if change.plural != "jobs" or job is None or not (labels or {}).items() <= (job["metadata"].get("labels") or {}).items():
            return
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        conditions = (job.get("status") or {}).get("conditions") or []
        if any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions):
            return
        is_suspended, was_suspended = (bool(one["spec"].get("suspend")) if one else None for one in (job, change.before))
        if is_suspended == was_suspended:
            return
        if is_suspended:
            for pod in pods_of(api, name, namespace):
                api.objects.delete("pods", pod["metadata"]["name"], namespace)
            return
        for pod_name in make_pods(api, name, namespace):
            running(api, pod_name, namespace)

    api.objects.listeners.append(react)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _make_pod(api: ClusterApi, job: Object, index: int, node: str | None) -> str | None:
    metadata, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
    name = f"{metadata['name']}-{index}-{next(_NUMBERS):05x}"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    labels = {**((template.get("metadata") or {}).get("labels") or {}), "batch.kubernetes.io/job-completion-index": str(index)}
    annotations = dict((template.get("metadata") or {}).get("annotations") or {})
    spec = {**template["spec"], "hostname": f"{metadata['name']}-{index}"} | ({"nodeName": node} if node else {})
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations | {"batch.kubernetes.io/job-completion-index": str(index)},
            "ownerReferences": [owner],
        },
        "spec": spec,
        "status": {"phase": "Pending", "conditions": [scheduled] if node else []},
    }
    try:
        api.objects.admit_pod(metadata["namespace"], pod)
    except Refusal as refusal:
        event(api, job, "FailedCreate", f"Error creating: {refusal.message}", source="job-controller")
        return None
    api.objects.put(pod)
    return name


def _pod(api: ClusterApi, pod: str, namespace: str, phase: str, state: Object, *, ready: bool = False) -> None:
    def edit(obj: Object) -> None:
        status = obj.setdefault("status", {})
        containers = obj["spec"]["containers"]
        before = {one["name"]: one for one in status.get("containerStatuses") or []}
        status["phase"] = phase
        status["startTime"] = status.get("startTime") or now()
        status["containerStatuses"] = [
            {
                "name": one["name"],
                "image": one.get("image", ""),
                "ready": ready,
                "restartCount": before.get(one["name"], {}).get("restartCount", 0),
                "state": copy.deepcopy(state),
            }
            for one in containers
        ]

    api.objects.change("pods", pod, edit, namespace)


def index_of(pod: Object) -> int:
    return int((pod["metadata"].get("annotations") or {}).get("batch.kubernetes.io/job-completion-index", 0))


def ready(api: ClusterApi, namespace: str = "default") -> None:
    """What an administrator puts there before the first run: a namespace, claims, and a machine."""
    api.objects.put({"kind": "Namespace", "metadata": {"name": namespace}, "status": {"phase": "Active"}})
    for name in ("dpo-runs", "dpo-cache"):
        claim(api, name, namespace=namespace)
    node(api, "node-1")


def claim(
    api: ClusterApi,
    name: str,
    mode: str = "ReadWriteMany",
    phase: str = "Bound",
    storage_class: str | None = "shared",
    namespace: str = "default",
) -> None:
    """A claim, with a volume if it is Bound."""
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "100Gi"}}}
    spec |= {"storageClassName": storage_class} if storage_class else {}
    api.objects.put(
        {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
            "status": {"phase": phase},
        }
    )


def node(
    api: ClusterApi,
    name: str,
    *,
    cpu: str = "64",
    memory: str = "512Gi",
    gpus: int = 0,
    labels: dict[str, str] | None = None,
    taints: list[dict[str, str]] | None = None,
    images: list[str] | None = None,
) -> None:
    """A machine of the cluster that is ready."""
    there = {"cpu": cpu, "memory": memory, "ephemeral-storage": "200Gi", "pods": "110"}
    there |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    api.objects.put(
        {
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", **(labels or {})},
            },
            "spec": {"taints": taints} if taints else {},
            "status": {
                "allocatable": there,
                "conditions": [{"type": "Ready", "status": "True"}],
                "images": [{"names": [one]} for one in images or []],
            },
        }
    )


def quota(
    api: ClusterApi, name: str, hard: dict[str, str], used: dict[str, str] | None = None, namespace: str = "default"
) -> None:
    """A quota, of which ``used`` is taken."""
    obj = {"kind": "ResourceQuota", "metadata": {"name": name, "namespace": namespace}, "spec": {"hard": hard}}
    api.objects.put({**obj, "status": {"hard": hard, "used": used or {}}})
