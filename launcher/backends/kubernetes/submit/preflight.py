"""The preflight checks: everything that would keep a run from starting on a cluster, with its fix. Pure; ``facts`` asks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ....errors import LauncherError, Mistake, UnreachableError, Warned
from ....job.image import NAME
from ....published import with_manifests
from ....why.namespace import CLAIMS, MADE
from ..follow.run import ClusterRun
from ..render.kinds import KINDS, TRAINJOB
from ..render.names import LONGEST, host_name, longest_suffix
from ..render.spec import KubernetesSpec
from .capacity import over_quota, unfit
from .facts import Facts, is_of_one_node
from .probes import explained
from .trainer import wrong_trainer

_ONE_POD: Final = "ReadWriteOncePod"
_READER: Final = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
_APPLY: Final = "kubectl apply -k k8s/overlays/cluster (one machine: k8s/overlays/workstation)"
_HELD: Final = {"runs": "the runs", "cache": "the cached models", "data": "the data"}
_PLURALS: Final = {"Service": "services", "ConfigMap": "configmaps", **{kind.name: kind.resource for kind in KINDS.values()}}


class NotReady(LauncherError):
    """The cluster, or what is sent there, is not ready for a run; ``findings`` are all reasons, which ``may_pass`` by waiting."""

    def __init__(self, findings: Sequence[Mistake], *, may_pass: bool = False):
        self.findings = tuple(findings)
        if may_pass:
            self.exit_code = UnreachableError.exit_code
        super().__init__("\n".join(map(str, findings)))


@dataclass(frozen=True)
class Preflight:
    """``findings`` keep the run from starting; ``notices`` are worth a look, and warn of what could not be checked."""

    findings: tuple[Mistake, ...]
    notices: tuple[str, ...]

    def check(self) -> None:
        """Raises NotReady if there are findings."""
        if self.findings:
            raise NotReady(self.findings)


def preflight(spec: KubernetesSpec, facts: Facts, *, namespace: str, can_push: bool, is_named: bool) -> Preflight:
    """``can_push``: a registry for images of this machine is given; ``is_named``: the user chose the run's name."""
    findings = [
        *_earlier(spec, facts, is_named),
        *_namespace(facts, namespace),
        *_permissions(facts, namespace),
        *_kinds(spec, facts, namespace),
        *_pod(spec, facts, namespace),
        *_claims(spec, facts, namespace),
        *_secret(spec, facts, namespace),
        *_quotas(spec, facts),
        *_nodes(spec, facts),
        *_image(spec, facts, can_push),
        *_names(spec),
    ]
    return Preflight(tuple(findings), tuple(_notices(spec, facts)))


def _earlier(spec: KubernetesSpec, facts: Facts, is_named: bool) -> Iterator[Mistake]:
    for obj in facts.earlier:
        run = ClusterRun.of(obj)
        if run.name == spec.run or run.job == spec.job:
            again = f"resume it with: launcher resume {run.name}; or choose another --name"
            hint = again if is_named else "submit again: the run gets a new name"
            yield Mistake(f"--name {spec.run}", f"a run with this name already exists ({run.kind} {run.job})", hint=hint)
            return


def _namespace(facts: Facts, namespace: str) -> Iterator[Mistake]:
    if facts.namespace.found is None and facts.namespace.unseen is None:
        yield Mistake(
            f"namespace {namespace}",
            "not found",
            hint=f"create the namespace {MADE} with: {with_manifests(_APPLY)}; or choose another --namespace",
        )


def _permissions(facts: Facts, namespace: str) -> Iterator[Mistake]:
    for permission, verbs in facts.denied.items():
        named = f"{permission.resource}.{permission.group}" if permission.group else permission.resource
        what = f"permission denied: {', '.join(verbs)} {named} (needed by {permission.needed_by})"
        hint = "ask the cluster's administrator for the Role in k8s/base/access.yaml, or choose another --namespace"
        yield Mistake(f"namespace {namespace}", what, hint=hint)


def _kinds(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    if spec.kind == "JobSet" and not facts.has_jobset:
        yield Mistake("--kind jobset", "JobSet is not installed in the cluster", hint="use --kind job, which needs no add-on")
    elif spec.kind == "JobSet" and facts.jobset_works is False:
        what = "JobSet is served, but its webhook did not answer a dry run: its controller very likely does not run"
        yield Mistake("--kind jobset", what, hint="use --kind job, which needs no add-on")
    if spec.kind == TRAINJOB.name:
        yield from wrong_trainer(facts.trainer, namespace)
    if spec.queue is None:
        return
    if not facts.has_kueue:
        yield Mistake("launch.kubernetes.queue", "Kueue is not installed in the cluster", "no queue", spec.queue)
    elif facts.queue.found is None and facts.queue.unseen is None:
        hint = f"list the queues with: kubectl -n {namespace} get localqueues"
        yield Mistake("launch.kubernetes.queue", f"LocalQueue {spec.queue} not found in namespace {namespace}", hint=hint)
    elif facts.queue.found is not None:
        conditions = (facts.queue.found.get("status") or {}).get("conditions") or []
        inactive = next((one for one in conditions if one["type"] == "Active" and one["status"] == "False"), None)
        if inactive is not None:
            what = f"LocalQueue {spec.queue} is inactive: {inactive.get('message') or inactive.get('reason')}"
            yield Mistake("launch.kubernetes.queue", what, hint="ask the cluster's administrator, or choose another --queue")
    if facts.has_kueue and facts.kueue_works is False:
        what = "Kueue is served, but did not suspend a Job of the queue in a dry run: its controller very likely does not run"
        hint = "submit without --queue, or ask the cluster's administrator (Kueue may also leave this namespace alone)"
        yield Mistake("launch.kubernetes.queue", what, hint=hint)


def _pod(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    """Why the server would refuse the pods. It accepts their Job before it checks them."""
    why = explained(facts.pod, spec.run, namespace)
    is_full = "exceeded quota: " in (facts.pod.refused or "")
    if why is None or (is_full and facts.quotas.unseen is None):  # which is judged for all pods together
        return
    yield Mistake("pod", why.sentence, hint=why.suggestion)


def _claims(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    for name, roles in _roles(spec).items():
        answer, where = facts.claims[name], f"claim {name}"
        if answer.unseen is not None:
            continue
        if answer.found is None:
            held = " and ".join(_HELD.get(role, f"the volume {role}") for role in roles)
            what = f"not found in namespace {namespace}; it holds {held}"
            elsewhere = "" if namespace == MADE else f" in the namespace {MADE} (for --namespace {MADE})"
            made = f"create {' and '.join(CLAIMS.values())}{elsewhere} with: {with_manifests(_APPLY)}"
            yield Mistake(where, what, hint=f"{made}; or set another claim in launch.kubernetes.volumes.{roles[0]}")
            continue
        yield from _unbound(where, answer.found, facts)
        yield from _access(where, name, answer.found, roles, spec, facts)


def _unbound(where: str, claim: Mapping[str, Any], facts: Facts) -> Iterator[Mistake]:
    """Whether a claim has no volume and will not get one with its first pod."""
    phase = (claim.get("status") or {}).get("phase", "Pending")
    if phase == "Lost":
        yield Mistake(where, "lost its volume", hint="restore the volume, or delete the claim and create it again")
    if phase != "Pending":
        return
    name = claim["spec"].get("storageClassName")
    storage = facts.classes.get(name) if name else None
    if storage is None or (storage.found is None and storage.unseen is None):
        what = f"has no volume, and StorageClass {name} not found" if name else "has no volume and no StorageClass"
        yield Mistake(where, what, hint="set a StorageClass in the claim (kubectl get storageclasses), or create a volume for it")
    elif storage.found is not None and storage.found.get("volumeBindingMode") != "WaitForFirstConsumer":
        what = f"has no volume yet, although StorageClass {name} creates volumes immediately"
        yield Mistake(where, what, hint=f"kubectl describe persistentvolumeclaim {claim['metadata']['name']}")


def _access(
    where: str, name: str, claim: Mapping[str, Any], roles: Sequence[str], spec: KubernetesSpec, facts: Facts
) -> Iterator[Mistake]:
    """Whether the pods of all nodes, and the reader, can mount the claim together."""
    modes = set(claim["spec"].get("accessModes") or [])
    writes = {"runs", "cache"} & set(roles)
    if writes and not modes & {"ReadWriteMany", "ReadWriteOnce", _ONE_POD}:
        yield Mistake(where, f"is read-only ({_listed(modes)}), but {_listed(writes)} must be writable", "ReadWriteMany")
    if spec.nodes > 1 and not modes & ({"ReadWriteMany"} if writes else {"ReadWriteMany", "ReadOnlyMany"}):
        what = f"can only be mounted on one node ({_listed(modes)}), but the run has {spec.nodes}"
        yield Mistake(where, what, "ReadWriteMany", hint="use a claim whose StorageClass supports ReadWriteMany, or --nodes 1")
    elif modes == {_ONE_POD}:
        users = [pod["metadata"]["name"] for pod in _users(name, facts)]
        if users:
            what = f"can only be mounted by one pod ({_ONE_POD}), and {users[0]} uses it"
            yield Mistake(where, what, "ReadWriteMany or ReadWriteOnce", hint="create the claim with another access mode")


def _users(claim: str, facts: Facts) -> Iterator[Mapping[str, Any]]:
    """The pods that mount a claim and have not ended."""
    for pod in facts.pods.found or []:
        volumes = [one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["spec"].get("volumes") or []]
        if claim in volumes and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            yield pod


def _secret(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    if not spec.secret_keys or facts.secret.unseen is not None:
        return
    hint = f"launcher secrets push --namespace {namespace}" + ("" if spec.secret == "dpo-secrets" else f" --name {spec.secret}")
    if facts.secret.found is None:
        yield Mistake(f"secret {spec.secret}", f"not found; the run reads {', '.join(spec.secret_keys)} from it", hint=hint)
        return
    missing = [key for key in spec.secret_keys if key not in (facts.secret.found.get("data") or {})]
    if missing:
        yield Mistake(f"secret {spec.secret}", f"has no key {', '.join(missing)}", hint=hint)


def _quotas(spec: KubernetesSpec, facts: Facts) -> Iterator[Mistake]:
    objects = Counter(_PLURALS[obj["kind"]] for obj in spec.objects)
    counts = {**objects, **{plural.partition(".")[0]: count for plural, count in objects.items()}}
    for where, what in over_quota(facts.quotas.found or [], spec.pod["spec"], spec.pods, counts):
        less = "--gpus, --nodes, launch.memory" if spec.pods == spec.nodes else "--parallel, --gpus, launch.memory"
        hint = f"request less ({less}), ask for more quota, or wait for other runs: launcher ps --cluster"
        yield Mistake(where, what, hint=hint)


def _nodes(spec: KubernetesSpec, facts: Facts) -> Iterator[Mistake]:
    if facts.nodes.found is None:
        return
    why = unfit(facts.nodes.found, spec.pod["spec"])
    if why is not None:
        hint = "request less (--gpus, launch.memory, launch.cpus), or tolerate the taint (launch.kubernetes.tolerations)"
        if "ephemeral-storage (" in why:
            hint += "; lower the request of ephemeral-storage in launch.kubernetes.pod, or remove it with its limit (null)"
        hint += "; if an autoscaler adds nodes, submit with --anyway"
        yield Mistake("nodes", f"no node fits a pod of the run: {why}", hint=hint)


def _image(spec: KubernetesSpec, facts: Facts, can_push: bool) -> Iterator[Mistake]:
    reference = spec.image.reference
    if facts.nodes.found is None or not is_local(reference) or can_push or on_a_node(reference, facts):
        return
    variant = spec.image.variant
    if spec.image.build is None:
        hint = "set launch.image to an image in a registry, e.g. registry.example.com/team/dpo-launcher@sha256:…"
    else:
        build = f"launcher build --variant {variant} --push --registry registry.example.com/team"
        hint = f"submit with --registry registry.example.com/team, or first run: {build}"
    yield Mistake("image", f"{reference} exists only on this machine; the cluster cannot pull it", hint=hint)


def is_local(reference: str) -> bool:
    """Whether only this machine can have the image: its reference is an image id, or our own name without a registry."""
    return reference.startswith("sha256:") or bool(re.fullmatch(rf"{re.escape(NAME)}(:[\w.-]+)?", reference))


def on_a_node(reference: str, facts: Facts) -> bool:
    """Whether a node has the image, loaded by hand, e.g. on a workstation."""
    names = {
        name for node in facts.nodes.found or [] for one in node["status"].get("images") or [] for name in one.get("names") or []
    }
    return bool(names & {reference, f"docker.io/library/{reference}", f"docker.io/{reference}", f"localhost/{reference}"})


def _names(spec: KubernetesSpec) -> Iterator[Mistake]:
    longest = spec.job + longest_suffix(spec.kind, spec.nodes)
    if len(longest) > LONGEST or len(host_name(spec.job, spec.kind, spec.nodes - 1)) > LONGEST:
        yield Mistake(
            "--name",
            f"gives an object name of {len(longest)} characters: {longest}",
            f"at most {LONGEST}",
            hint="choose a shorter name",
        )


def _notices(spec: KubernetesSpec, facts: Facts) -> Iterator[str]:
    unseen = {f"claim {name}": answer for name, answer in facts.claims.items()}
    if spec.secret_keys:
        unseen[f"secret {spec.secret} with {', '.join(spec.secret_keys)}"] = facts.secret
    unseen |= {"quotas": facts.quotas, "nodes": facts.nodes}
    if spec.queue is not None:
        unseen[f"queue {spec.queue}"] = facts.queue
    for what, answer in unseen.items():
        if answer.unseen is not None:
            yield Warned(f"{what} not checked: {answer.unseen}")
    if facts.nodes.found is None and is_local(spec.image.reference):
        brought = "it starts only if somebody loaded this image into the nodes (else submit with --registry)"
        yield Warned(f"image {spec.image.reference} is in no registry: {brought}")
    if facts.pod.unseen is not None and {"serviceAccountName", "runtimeClassName"} & spec.pod["spec"].keys():
        yield Warned(f"service account and RuntimeClass not checked: {facts.pod.unseen}")
    if facts.jobset_works is False and spec.kind == "Job" and spec.nodes > 1:
        yield "the run is a plain Job: JobSet is served, but its controller very likely does not run (its webhook did not answer)"
    if facts.nodes.found == []:
        yield "the cluster has no nodes yet; the run waits for one"
    for name, roles in _roles(spec).items():
        if "runs" not in roles or not is_of_one_node(facts.claims[name].found):
            continue
        for pod in _users(name, facts):
            node = pod["spec"].get("nodeName")
            if node and _READER.items() <= (pod["metadata"].get("labels") or {}).items():
                reader = pod["metadata"]["name"]
                yield f"claim {name} can only be mounted on one node; the run must be on {node}, where {reader} uses it"


def _roles(spec: KubernetesSpec) -> dict[str, list[str]]:
    """Claim -> its roles."""
    found: dict[str, list[str]] = {}
    for role, name in spec.claims.items():
        found.setdefault(name, []).append(role)
    return found


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "no access mode"
