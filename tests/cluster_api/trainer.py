"""Kubeflow Trainer as it works on TrainJobs, and JobSet on what it makes of them, in the steps that a run can see.

After kubeflow/trainer 2.2 to 2.3: pkg/webhooks/trainjob_webhook.go, pkg/runtime/core/trainingruntime.go (the merge) and
pkg/runtime/framework/plugins/jobset.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .refusal import Refusal

if TYPE_CHECKING:
    from . import ClusterApi
    from .store import Change, Store

Object = dict[str, Any]
_RUNTIMES = {"TrainingRuntime": "trainingruntimes", "ClusterTrainingRuntime": "clustertrainingruntimes"}
_KEYS = {"volumeMounts": "mountPath"}  # by which elements of a list are merged; others by name, tolerations not at all
_ENDS = {"Completed": "Complete", "Failed": "Failed"}  # of a JobSet -> of a TrainJob
# Reason and words of a JobSet's end, which has neither of its Job's (kubernetes-sigs/jobset, pkg/constants).
_COMPLETED = "AllJobsCompleted", "jobset completed successfully"
_FINAL = "FailJobSetFailurePolicyAction", "applying FailJobSet failure policy action"
_SPENT = "ReachedMaxRestarts", "jobset failed due to reaching max number of restarts"
_JOBSET = "jobset.sigs.k8s.io/jobset-name"


def check(objects: Store, obj: Object) -> None:
    """What the webhook refuses of a TrainJob."""
    ref = obj["spec"]["runtimeRef"]
    if _runtime(objects, obj) is None:
        kind = str(ref["kind"])
        missing = f'{kind}.trainer.kubeflow.org "{ref["name"]}" not found'
        said = f"{missing}: specified {kind[0].lower()}{kind[1:]} must be created before the TrainJob is created"
        raise _denied(f'spec.runtimeRef: Invalid value: {{"name":"{ref["name"]}"}}: {said}')
    for patch in obj["spec"].get("runtimePatches") or []:
        for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            pod = job["template"]["spec"]["template"]["spec"]
            if job["name"] != "node" or any(one["name"] != "node" for one in pod.get("containers") or []):
                raise _denied("spec.runtimePatches: must not have container that doesn't exist in the runtime job node")
            if any(one.get("env") for one in pod.get("containers") or []):
                raise _denied("spec.runtimePatches: must not have envs for the node containers")


def play(api: ClusterApi) -> None:
    """From now on a TrainJob gets its JobSet, that its Job, and each is told how the next one ended; pods come from
    ``controllers.play``."""

    def react(change: Change) -> None:
        obj = change.after
        if obj is None:
            return
        if change.plural == "trainjobs" and _spec(change.before) != obj["spec"] and not _ended(obj):
            _sync_jobset(api, obj)
        owners = {one["kind"] for one in obj["metadata"].get("ownerReferences") or []}
        if change.plural == "jobsets" and "TrainJob" in owners:
            _sync_job(api, obj, change)
            _tell(api, obj)
        if change.plural == "jobs" and "JobSet" in owners and _ended(obj) and not _ended(change.before or {}):
            _judge(api, obj)

    api.objects.listeners.append(react)


def _runtime(objects: Store, obj: Object) -> Object | None:
    ref = obj["spec"]["runtimeRef"]
    return objects.find(_RUNTIMES[ref["kind"]], ref["name"], obj["metadata"]["namespace"])


def jobset_of(runtime: Object, obj: Object) -> Object:
    """The spec of the JobSet that a TrainJob gets."""
    spec, made = obj["spec"], copy.deepcopy(runtime["spec"]["template"]["spec"])
    for patch in spec.get("runtimePatches") or []:
        made = _merged(made, patch["trainingRuntimeSpec"]["template"]["spec"])
    for job in made["replicatedJobs"]:
        if job["template"].get("metadata", {}).get("labels", {}).get("trainer.kubeflow.org/trainjob-ancestor-step") != "trainer":
            continue
        count = spec["trainer"].get("numNodes") or runtime["spec"]["mlPolicy"].get("numNodes", 1)
        job["template"]["spec"] |= {"parallelism": count, "completions": count}
        for container in (one for one in job["template"]["spec"]["template"]["spec"]["containers"] if one["name"] == "node"):
            container |= {key: spec["trainer"][key] for key in ("image", "command", "args") if key in spec["trainer"]}
            container["env"] = _elements(container.get("env") or [], spec["trainer"].get("env") or [], "name")
            if "mlPolicy" in runtime["spec"]:  # else the resources are left out
                container["resources"] = _merged(container.get("resources") or {}, spec["trainer"].get("resourcesPerNode") or {})
    return made


def _sync_jobset(api: ClusterApi, obj: Object) -> None:
    metadata, runtime = obj["metadata"], _runtime(api.objects, obj)
    assert runtime is not None, "the webhook has seen it"
    head = {"name": metadata["name"], "namespace": metadata["namespace"], "ownerReferences": [_owner(obj)]}
    there = api.objects.find("jobsets", metadata["name"], metadata["namespace"])
    if there is not None and metadata["uid"] not in [one["uid"] for one in there["metadata"].get("ownerReferences") or []]:
        _tell(api, there)  # an earlier one's, which the collector has not deleted yet: Trainer goes by the name
        return
    is_suspended = bool(obj["spec"].get("suspend"))
    status = {} if there is None else {"status": there.get("status") or {}}
    api.objects.put({"kind": "JobSet", "metadata": head, "spec": {**jobset_of(runtime, obj), "suspend": is_suspended}, **status})
    was_suspended = any(one["type"] == "Suspended" for one in (obj.get("status") or {}).get("conditions") or [])
    if is_suspended or was_suspended:
        _condition(api, "trainjobs", obj, "Suspended", is_suspended)


def _sync_job(api: ClusterApi, jobset: Object, change: Change) -> None:
    metadata, (job,) = jobset["metadata"], jobset["spec"]["replicatedJobs"]
    name = f"{metadata['name']}-{job['name']}-0"
    there = api.objects.find("jobs", name, metadata["namespace"])
    is_suspended = jobset["spec"]["suspend"]
    if there is not None and there["spec"].get("suspend") != is_suspended:
        api.objects.change("jobs", name, lambda one: one["spec"].update(suspend=is_suspended), metadata["namespace"])
    restarts = (jobset.get("status") or {}).get("restarts", 0)
    is_again = restarts > ((change.before or {}).get("status") or {}).get("restarts", 0)
    if _ended(jobset) or (there is not None and not is_again):
        return
    if there is not None:
        api.objects.delete("jobs", name, metadata["namespace"])
    spec = copy.deepcopy(job["template"]["spec"])
    labels = {_JOBSET: metadata["name"], "batch.kubernetes.io/job-name": name}
    template = spec["template"]
    template["metadata"] = {**template["metadata"], "labels": {**template["metadata"]["labels"], **labels}}
    template["spec"]["subdomain"] = metadata["name"]
    head = {"name": name, "namespace": metadata["namespace"], "ownerReferences": [_owner(jobset)]}
    api.objects.put({"kind": "Job", "metadata": head, "spec": {**spec, "suspend": is_suspended}})
    if not (jobset.get("status") or {}).get("replicatedJobsStatus"):
        said = [{"name": job["name"], "active": 1, "ready": 0, "succeeded": 0, "failed": 0, "suspended": 0}]
        api.objects.change("jobsets", metadata["name"], lambda one: _status(one).update(replicatedJobsStatus=said))


def _judge(api: ClusterApi, job: Object) -> None:
    """A Job has ended: the JobSet ends with it, or restarts it."""
    name, namespace = job["metadata"]["ownerReferences"][0]["name"], job["metadata"]["namespace"]
    jobset = api.objects.get("jobsets", name, namespace)
    (end,) = (one for one in job["status"]["conditions"] if one["type"] in ("Complete", "Failed"))
    policy, restarts = jobset["spec"]["failurePolicy"], (jobset.get("status") or {}).get("restarts", 0)
    if end["type"] == "Complete":
        _condition(api, "jobsets", jobset, "Completed", True, _COMPLETED)
        return
    first = f" (first failed job: {job['metadata']['name']})"
    if any(end["reason"] in rule["onJobFailureReasons"] and rule["action"] == "FailJobSet" for rule in policy["rules"]):
        _condition(api, "jobsets", jobset, "Failed", True, (_FINAL[0], _FINAL[1] + first))
    elif restarts >= policy["maxRestarts"]:
        _condition(api, "jobsets", jobset, "Failed", True, (_SPENT[0], _SPENT[1] + first))
    else:
        api.objects.change("jobsets", name, lambda one: _status(one).update(restarts=restarts + 1), namespace)


def _tell(api: ClusterApi, jobset: Object) -> None:
    """The TrainJob has the counts of its JobSet, and its end."""
    name, namespace, status = jobset["metadata"]["name"], jobset["metadata"]["namespace"], jobset.get("status") or {}
    if api.objects.find("trainjobs", name, namespace) is None:
        return
    if counts := status.get("replicatedJobsStatus"):
        api.objects.change("trainjobs", name, lambda one: _status(one).update(jobsStatus=counts), namespace)
    for one in status.get("conditions") or []:
        if one["type"] in _ENDS:
            _condition(api, "trainjobs", jobset, _ENDS[one["type"]], True, (one["reason"], one["message"]))


def _condition(api: ClusterApi, plural: str, obj: Object, kind: str, is_true: bool, words: tuple[str, str] | None = None) -> None:
    from .controllers import condition

    name, namespace = obj["metadata"]["name"], obj["metadata"]["namespace"]
    condition(api, plural, name, kind, str(is_true), *(words or (kind, "")), namespace)


def _merged(base: Any, patch: Any) -> Any:
    """A strategic merge patch."""
    if not isinstance(base, dict):
        return patch
    made = dict(base)
    for name, value in patch.items():
        if isinstance(value, list) and name != "tolerations" and value and isinstance(value[0], dict):
            made[name] = _elements(made.get(name) or [], value, _KEYS.get(name, "name"))
        else:
            made[name] = _merged(made.get(name), value)
    return made


def _elements(base: list[Object], patch: list[Object], key: str) -> list[Object]:
    made = {one[key]: one for one in base}
    for one in patch:
        made[one[key]] = _merged(made.get(one[key], {}), one)
    return list(made.values())


def _owner(obj: Object) -> Object:
    kind = "TrainJob" if "runtimeRef" in obj["spec"] else "JobSet"
    version = "trainer.kubeflow.org/v1alpha1" if kind == "TrainJob" else "jobset.x-k8s.io/v1alpha2"
    name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}


def _spec(obj: Object | None) -> Any:
    return None if obj is None else obj["spec"]


def _status(obj: Object) -> Object:
    found: Object = obj.setdefault("status", {})
    return found


def _ended(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(one["type"] in ("Complete", "Completed", "Failed") and one["status"] == "True" for one in conditions)


def _denied(words: str) -> Refusal:
    webhook = "validator.trainjob.trainer.kubeflow.org"
    return Refusal(403, "Forbidden", f'admission webhook "{webhook}" denied the request: {words}')
