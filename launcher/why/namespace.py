"""Findings about a cluster and a namespace: version, rights, claims, reader, add-ons, nodes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import Mistake
from ..published import with_manifests
from .doctor import Finding
from .evidence import Explanation
from .image import WAITING
from .resources import gpus_in

TESTED: Final = (31, 36)  # minor versions of Kubernetes 1
# The first whose Jobs have podReplacementPolicy and backoffLimitPerIndex without a feature gate that somebody opens; older ones
# drop or refuse them. The other fields of a run are older: podFailurePolicy 1.26, the label batch.kubernetes.io/job-name 1.27.
OLDEST: Final = 29
CLAIMS: Final = {"runs": "dpo-runs", "cache": "dpo-cache"}  # the defaults of launch.kubernetes.volumes
_OF_IMAGES: Final = re.compile(r"\bimages?\b|\bregistr|\bdigest", re.IGNORECASE)
_WORKSTATION: Final = "kubectl apply -k k8s/overlays/workstation"
_CLUSTER: Final = "kubectl apply -k k8s/overlays/cluster"
MADE: Final = "dpo"  # the namespace that k8s/ makes
_CONTEXT: Final = f"kubectl config set-context --current --namespace {MADE}"


def minor_of(answer: Mapping[str, Any]) -> int:
    """The minor version in the answer of /version, such as ``36`` or ``31+``, as a number; 0 without one."""
    return int("".join(filter(str.isdecimal, str(answer.get("minor", "")))) or 0)


def version(number: int, where: str) -> Finding:
    """``number``: the minor version."""
    low, high = TESTED
    if low <= number <= high:
        return Finding("cluster", "ok", f"{where}, Kubernetes 1.{number}")
    if 0 < number < OLDEST:
        detail = f"{where}, Kubernetes 1.{number}: its Jobs lack podReplacementPolicy, which 1.{OLDEST} and newer have"
        return Finding("cluster", "missing", detail, "ask the cluster's administrator to upgrade it")
    relation = "older" if number < low else "newer"
    return Finding("cluster", "unknown", f"{where}, Kubernetes 1.{number}: {relation} than the tested 1.{low} to 1.{high}")


def namespace(name: str, obj: Mapping[str, Any] | None, apply: str) -> list[Finding]:
    """``obj``: the Namespace, None if it does not exist."""
    if obj is None:
        return [Finding("namespace", "missing", f"{name} does not exist", apply)]
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    enforced = labels.get("pod-security.kubernetes.io/enforce")
    found = [Finding("namespace", "ok", f"{name}, Pod Security {enforced}" if enforced else name)]
    if name == "default":
        detail = "runs go into `default`; set launch.kubernetes.namespace or the context's namespace"
        return [Finding("namespace", "unknown", detail, _CONTEXT)]
    if enforced != "restricted":
        detail = f"{name} does not enforce Pod Security `restricted`; runs comply with it"
        command = f"kubectl label namespace {name} pod-security.kubernetes.io/enforce=restricted"
        found.append(Finding("pod security", "missing", detail, command, is_needed=False))
    return found


def permissions(denied: Mapping[str, Sequence[str]], where: str, apply: str) -> list[Finding]:
    """``denied``: the launcher's verb that fails -> Kubernetes verbs and resources that are denied, such as ``create jobs``."""
    if not denied:
        return [Finding("permissions", "ok", f"everything that the launcher needs in {where}")]
    there = MADE if where == "default" else where  # the namespace of the Role that `apply` makes
    bind = f"kubectl -n {there} create rolebinding NAME --role=dpo-launcher --user=YOU"
    return [
        Finding(
            "permissions",
            "missing",
            f"`launcher {verb}` needs permission to {', '.join(what)}",
            f"{apply}; then, as administrator: {bind}",
        )
        for verb, what in denied.items()
    ]


def claim(name: str, obj: Mapping[str, Any] | None, where: str, apply: str) -> Finding:
    what = f"claim {name}"
    if obj is None:
        return Finding(what, "missing", "not found", apply)
    phase = (obj.get("status") or {}).get("phase", "Pending")
    modes: Sequence[str] = (obj.get("status") or {}).get("accessModes") or obj["spec"].get("accessModes") or []
    if phase == "Lost":
        return Finding(what, "missing", "its volume is gone", f"kubectl -n {where} describe pvc {name}")
    if phase != "Bound":
        detail = "not bound: it is bound with its first pod, or no volume fits"
        return Finding(what, "unknown", detail, f"kubectl -n {where} describe pvc {name}")
    if "ReadWriteMany" in modes:
        return Finding(what, "ok", "bound, ReadWriteMany")
    return Finding(what, "ok", f"bound, {', '.join(modes)}: runs have one node, and TensorBoard must run on the same node")


def reader(pods: Sequence[Mapping[str, Any]], where: str, apply: str, why: Explanation | None = None) -> Finding:
    """``pods`` of the reader, as the API returns them; ``why`` none of them runs, if known."""
    what = "reader"
    if not pods:
        detail = "no TensorBoard pod: logs of finished runs and downloads need it"
        if why is None:
            return Finding(what, "missing", detail, apply)
        return Finding(what, "missing", f"{detail}; {why.sentence}", why.suggestion or apply)
    for pod in pods:
        conditions = (pod.get("status") or {}).get("conditions") or []
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            return Finding(what, "ok", f"{pod['metadata']['name']} is ready")
    name = pods[0]["metadata"]["name"]
    states = [
        (one.get("state") or {}).get("waiting") or {} for one in (pods[0].get("status") or {}).get("containerStatuses") or []
    ]
    reason = next(
        (state["reason"] for state in states if state.get("reason")), (pods[0].get("status") or {}).get("phase", "Pending")
    )
    look = f"kubectl -n {where} describe pod {name}"
    if reason in WAITING:
        said = why.sentence if why is not None else f"its image cannot be pulled ({reason})"
        return Finding(what, "missing", f"{name}: {said}", _pulled(where, why))
    if why is not None:
        return Finding(what, "missing", f"{name}: {why.sentence}", why.suggestion or look)
    return Finding(what, "missing", f"{name} is not ready ({reason})", look)


def _pulled(where: str, why: Explanation | None) -> str:
    """The command by which the reader's image can be pulled."""
    if why is not None and why.cause == "unauthorized":
        if "pull secret" in why.sentence:
            return why.suggestion
        secrets = '{"spec":{"template":{"spec":{"imagePullSecrets":[{"name":"SECRET"}]}}}}'
        return f"kubectl -n {where} patch deployment dpo-tensorboard -p '{secrets}'"
    return f"kubectl -n {where} set image deployment/dpo-tensorboard tensorboard=IMAGE"


def server(name: str, pod: str, where: str, why: Explanation | None, *, is_ready: bool) -> Finding:
    """A model server from `launcher serve --backend kubernetes`; ``why`` it does not run, if known."""
    what = f"server {name}"
    if is_ready:
        return Finding(what, "ok", f"{pod} is ready", is_needed=False)
    if why is None:
        detail = f"{pod} is not ready: it downloads and loads its model"
        return Finding(what, "unknown", detail, f"kubectl -n {where} logs {pod}", is_needed=False)
    return Finding(
        what, "missing", f"{pod}: {why.sentence}", why.suggestion or f"kubectl -n {where} describe pod {pod}", is_needed=False
    )


def strays(run: str, objects: Sequence[str], where: str) -> Finding:
    """``objects`` of ``run``, which has no Job: kind and name of each."""
    detail = f"{', '.join(objects)}: nothing owns them, because a submit was killed or the Job was deleted without them"
    return Finding(f"left by {run}", "unknown", detail, f"launcher rm {run} -n {where}", is_needed=False)


def secret(name: str, obj: Mapping[str, Any] | None) -> Finding:
    if obj is None:
        detail = "not found: experiments with a token, S3 or Google Sheets need it"
        return Finding(f"secret {name}", "missing", detail, "launcher secrets push", is_needed=False)
    return Finding(f"secret {name}", "ok", f"has {', '.join(sorted(obj.get('data') or {})) or 'no key'}")


_WITHOUT: Final = {
    "JobSet": "runs over several nodes use an Indexed Job, which needs no add-on",
    "Kueue": "no queues; --queue does not work",
}


def addon(name: str, *, is_served: bool, works: bool | None) -> Finding:
    """JobSet or Kueue, which an administrator installs. ``works``: whether its webhook answered a dry run, None if unknown."""
    if not is_served:
        install = "kubectl apply --server-side -f https://github.com/kubernetes-sigs/{}/releases/latest/download/manifests.yaml"
        return Finding(name, "missing", f"not installed: {_WITHOUT[name]}", install.format(name.lower()), is_needed=False)
    look = f"kubectl -n {name.lower()}-system get deployments,pods"
    if works is None:
        detail = "its CRDs are installed; whether its controller runs is unknown, because a dry run was refused"
        return Finding(name, "unknown", detail, look, is_needed=False)
    if works:
        return Finding(name, "ok", "installed; its controller runs (its webhook answers)", is_needed=False)
    did = "fill in a JobSet" if name == "JobSet" else "suspend a Job with a queue"
    detail = f"its CRDs are installed, but its controller is probably down: its webhook did not {did} in a dry run"
    elsewhere = "" if name == "JobSet" else ", or leaves this namespace alone"
    return Finding(name, "missing", f"{detail}{elsewhere}; {_WITHOUT[name]}", look, is_needed=False)


def trainer(wrong: Mistake | None, *, works: bool | None, is_own: bool) -> Finding:
    """Kubeflow Trainer where TrainJobs are served; ``wrong``: why a run cannot be one, ``is_own``: the namespace has the runtime,
    not the cluster; ``works``: whether its webhook judged a dry run, None if unknown."""
    if wrong is not None:
        return Finding("Trainer", "missing", f"{wrong.what} (for --kind trainjob)", wrong.hint, is_needed=False)
    if works is None:
        detail = "TrainJob's CRD is installed; whether runs can use it is unknown, because a dry run was refused"
        return Finding("Trainer", "unknown", detail, is_needed=False)
    whose = "the namespace" if is_own else "the cluster"
    return Finding("Trainer", "ok", f"installed; {whose} has the runtime for --kind trainjob", is_needed=False)


def pods(why: Explanation | None) -> Finding:
    """Whether the server accepts a small pod like a run's; ``why``: why not, None if it does."""
    if why is None:
        return Finding("pods", "ok", "a run's pod is accepted (dry run)")
    if why.cause == "admission" and _OF_IMAGES.search(why.sentence):  # those of runs have an image of a registry
        told = f"tried with an image without a registry: {why.sentence}"
        return Finding("pods", "unknown", told, "launcher submit EXP --registry registry.example.com/team")
    return Finding("pods", "missing", f"a run's pod is refused: {why.sentence}", why.suggestion)


def nodes(found: Sequence[Mapping[str, Any]]) -> Finding:
    """The cluster's nodes, and the GPUs on schedulable ones."""
    if not found:
        return Finding("nodes", "missing", "none now; runs wait for one", is_needed=False)
    closed = {node["metadata"]["name"]: reason for node in found if (reason := _closed(node)) is not None}
    said = "".join(f"; {name} {reason}" for name, reason in sorted(closed.items())[:_NAMED])
    said += f"; {len(closed) - _NAMED} others are closed too" if len(closed) > _NAMED else ""
    uncordon = next((f"kubectl uncordon {name}" for name, reason in sorted(closed.items()) if reason == _CORDONED), None)
    if len(closed) == len(found):
        return Finding("nodes", "missing", f"{len(found)}, none takes pods{said}", uncordon or "kubectl get nodes")
    there = [node for node in found if node["metadata"]["name"] not in closed]
    counts = [gpus_in((node.get("status") or {}).get("allocatable") or {}) for node in there]
    those = [count for count in counts if count]
    if those:
        have = "has" if len(those) == 1 else "have"
        detail = f"{len(found)}, of which {len(those)} {have} GPUs: {sum(those)} in all, {max(those)} on one"
        return Finding("nodes", "ok", f"{detail}{said}", uncordon)
    detail = f"{len(found)}, none with a GPU: only runs with --gpus 0 start; NVIDIA's device plugin adds GPUs{said}"
    plugin = "https://raw.githubusercontent.com/NVIDIA/k8s-device-plugin/main/deployments/static/nvidia-device-plugin.yml"
    return Finding("nodes", "missing", detail, uncordon or f"kubectl create -f {plugin}", is_needed=False)


_CORDONED: Final = "is cordoned and takes no new pod"
_NAMED: Final = 3  # nodes


def _closed(node: Mapping[str, Any]) -> str | None:
    """Why a node takes no new pod; None if it does."""
    if (node.get("spec") or {}).get("unschedulable"):
        return _CORDONED
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = next((one["status"] for one in conditions if one["type"] == "Ready"), "True")
    return None if ready == "True" else "is not ready"


def storage_class(classes: Sequence[Mapping[str, Any]], *, are_bound: bool) -> Finding:
    """``are_bound``: both claims have a volume, and need no class."""
    mark = "storageclass.kubernetes.io/is-default-class"
    default = next((one for one in classes if (one["metadata"].get("annotations") or {}).get(mark) == "true"), None)
    if default is not None:
        return Finding("StorageClass", "ok", f"{default['metadata']['name']} is the default")
    names = ", ".join(one["metadata"]["name"] for one in classes) or "the cluster has none"
    if are_bound:
        return Finding(
            "StorageClass", "missing", f"no default ({names}); the claims are bound and do not need one", is_needed=False
        )
    detail = f"no default ({names}): claims must name one"
    return Finding("StorageClass", "missing", detail, with_manifests(_CLUSTER), is_needed=not classes)


def unseen(what: str, reason: str) -> Finding:
    """What the caller may not see."""
    return Finding(what, "unknown", reason, is_needed=False)


def applied_by(node_count: int | None, where: str) -> str:
    """The kubectl command that installs k8s/ into the namespace ``where``; ``node_count`` is None if nodes cannot be listed."""
    apply = with_manifests(_WORKSTATION if node_count == 1 else _CLUSTER)
    if where == "default":
        return f"{apply} && {_CONTEXT}"
    return apply if where == MADE else f"{apply}, with namespace {where} (see k8s/README.md)"
