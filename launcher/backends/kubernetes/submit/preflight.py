"""What would keep a run from starting on a cluster, all of it at once, each with what mends it. Pure: ``facts`` asks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ....errors import LauncherError, Mistake
from ....job.image import NAME
from ....why.doctor import CLAIMS, MADE
from ..follow.run import ClusterRun
from ..render.names import LONGEST, host_name, longest_suffix
from ..render.spec import KubernetesSpec
from .capacity import over_quota, unfit
from .facts import Facts, is_of_one_node

_ONE_POD: Final = "ReadWriteOncePod"
_READER: Final = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
_APPLY: Final = "kubectl apply -k k8s/overlays/cluster (one machine: k8s/overlays/workstation)"
_HELD: Final = {"runs": "the runs", "cache": "the models that are kept", "data": "the data"}
_PLURALS: Final = {"Service": "services", "ConfigMap": "configmaps", "Job": "jobs.batch", "JobSet": "jobsets.jobset.x-k8s.io"}


class NotReady(LauncherError):
    """A cluster, or what is to be sent there, is not ready for a run; ``findings`` says all that is wrong."""

    def __init__(self, findings: Sequence[Mistake]):
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, findings)))


@dataclass(frozen=True)
class Preflight:
    """``findings`` keep the run from starting; ``notices`` are worth knowing, or say what could not be looked at."""

    findings: tuple[Mistake, ...]
    notices: tuple[str, ...]

    def check(self) -> None:
        """Raises NotReady if anything was found."""
        if self.findings:
            raise NotReady(self.findings)


def preflight(spec: KubernetesSpec, facts: Facts, *, namespace: str, can_push: bool, is_named: bool) -> Preflight:
    """``can_push``: a registry is known to which an image of this machine is pushed; ``is_named``: a person chose the name."""
    findings = [
        *_earlier(spec, facts, is_named),
        *_namespace(facts, namespace),
        *_permissions(facts, namespace),
        *_kinds(spec, facts, namespace),
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
            hint = "another --name" if is_named else "submit it again: the next name is a new one"
            yield Mistake(f"--name {spec.run}", f"a run of that name exists already ({run.kind} {run.job})", hint=hint)
            return


def _namespace(facts: Facts, namespace: str) -> Iterator[Mistake]:
    if facts.namespace.found is None and facts.namespace.unseen is None:
        yield Mistake(
            f"namespace {namespace}", "is not there", hint=f"{_APPLY} makes the namespace {MADE}; --namespace takes another"
        )


def _permissions(facts: Facts, namespace: str) -> Iterator[Mistake]:
    for permission, verbs in facts.denied.items():
        named = f"{permission.resource}.{permission.group}" if permission.group else permission.resource
        what = f"you may not {', '.join(verbs)} {named} ({permission.needed_by} needs it)"
        hint = "ask who runs the cluster for the Role of k8s/base/access.yaml, or take another --namespace"
        yield Mistake(f"namespace {namespace}", what, hint=hint)


def _kinds(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    if spec.kind == "JobSet" and not facts.has_jobset:
        yield Mistake("--kind jobset", "the cluster serves no JobSets", hint="--kind job needs no add-on")
    if spec.queue is None:
        return
    if not facts.has_kueue:
        yield Mistake("launch.kubernetes.queue", "the cluster has no Kueue", "no queue there", spec.queue)
    elif facts.queue.found is None and facts.queue.unseen is None:
        hint = f"`kubectl -n {namespace} get localqueues` lists those that are there"
        yield Mistake("launch.kubernetes.queue", f"there is no LocalQueue {spec.queue} in {namespace}", hint=hint)
    elif facts.queue.found is not None:
        conditions = (facts.queue.found.get("status") or {}).get("conditions") or []
        inactive = next((one for one in conditions if one["type"] == "Active" and one["status"] == "False"), None)
        if inactive is not None:
            what = f"LocalQueue {spec.queue} admits nothing: {inactive.get('message') or inactive.get('reason')}"
            yield Mistake("launch.kubernetes.queue", what, hint="ask who runs the cluster, or take another --queue")


def _claims(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    for name, roles in _roles(spec).items():
        answer, where = facts.claims[name], f"claim {name}"
        if answer.unseen is not None:
            continue
        if answer.found is None:
            what = f"is not there, in {namespace}; it is to hold {' and '.join(_HELD[role] for role in roles)}"
            elsewhere = "" if namespace == MADE else f" in the namespace {MADE}, for --namespace {MADE}"
            made = f"{_APPLY} makes {' and '.join(CLAIMS.values())}{elsewhere}"
            yield Mistake(where, what, hint=f"{made}; another claim: launch.kubernetes.volumes.{roles[0]}")
            continue
        yield from _unbound(where, answer.found, facts)
        yield from _access(where, name, answer.found, roles, spec, facts)


def _unbound(where: str, claim: Mapping[str, Any], facts: Facts) -> Iterator[Mistake]:
    """A claim has a volume, or gets one with its first pod."""
    phase = (claim.get("status") or {}).get("phase", "Pending")
    if phase == "Lost":
        yield Mistake(where, "has lost its volume", hint="restore the volume, or delete the claim and make it again")
    if phase != "Pending":
        return
    name = claim["spec"].get("storageClassName")
    storage = facts.classes.get(name) if name else None
    if storage is None or (storage.found is None and storage.unseen is None):
        what = (
            f"has no volume, and there is no StorageClass {name} that makes one" if name else "has no volume and no StorageClass"
        )
        yield Mistake(
            where, what, hint="name a StorageClass of `kubectl get storageclasses` in the claim, or make a volume for it"
        )
    elif storage.found is not None and storage.found.get("volumeBindingMode") != "WaitForFirstConsumer":
        what = f"waits for its volume, which StorageClass {name} should have made at once"
        yield Mistake(where, what, hint=f"kubectl describe persistentvolumeclaim {claim['metadata']['name']}")


def _access(
    where: str, name: str, claim: Mapping[str, Any], roles: Sequence[str], spec: KubernetesSpec, facts: Facts
) -> Iterator[Mistake]:
    """Whether the pods of all nodes, and the reader, can have the claim together."""
    modes = set(claim["spec"].get("accessModes") or [])
    writes = {"runs", "cache"} & set(roles)
    if writes and not modes & {"ReadWriteMany", "ReadWriteOnce", _ONE_POD}:
        yield Mistake(where, f"can only be read ({_listed(modes)}), and {_listed(writes)} must be written", "ReadWriteMany")
    if spec.nodes > 1 and not modes & ({"ReadWriteMany"} if writes else {"ReadWriteMany", "ReadOnlyMany"}):
        what = f"can be mounted on one node ({_listed(modes)}), and the run has {spec.nodes}"
        yield Mistake(where, what, "ReadWriteMany", hint="a claim of a StorageClass that gives ReadWriteMany, or --nodes 1")
    elif modes == {_ONE_POD}:
        users = [pod["metadata"]["name"] for pod in _users(name, facts)]
        if users:
            what = f"can be mounted by one pod ({_ONE_POD}), and {users[0]} has it"
            yield Mistake(where, what, "ReadWriteMany or ReadWriteOnce", hint="make the claim with another access mode")


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
        yield Mistake(f"secret {spec.secret}", f"is not there; the run reads {', '.join(spec.secret_keys)} of it", hint=hint)
        return
    missing = [key for key in spec.secret_keys if key not in (facts.secret.found.get("data") or {})]
    if missing:
        yield Mistake(f"secret {spec.secret}", f"has no {', '.join(missing)}", hint=hint)


def _quotas(spec: KubernetesSpec, facts: Facts) -> Iterator[Mistake]:
    objects = Counter(_PLURALS[obj["kind"]] for obj in spec.objects)
    counts = {**objects, **{plural.partition(".")[0]: count for plural, count in objects.items()}}
    for where, what in over_quota(facts.quotas.found or [], spec.container, spec.nodes, counts):
        hint = "wait until others are done (launcher ps), ask for less (--gpus, --nodes, launch.memory), or have the quota raised"
        yield Mistake(where, what, hint=hint)


def _nodes(spec: KubernetesSpec, facts: Facts) -> Iterator[Mistake]:
    if facts.nodes.found is None:
        return
    why = unfit(facts.nodes.found, spec.pod["spec"])
    if why is not None:
        hint = "ask for less (--gpus, launch.memory, launch.cpus), tolerate the taint (launch.kubernetes.tolerations)"
        hint += "; --anyway where nodes are added on demand"
        yield Mistake("nodes", f"none could ever hold a pod of the run: {why}", hint=hint)


def _image(spec: KubernetesSpec, facts: Facts, can_push: bool) -> Iterator[Mistake]:
    reference = spec.image.reference
    if not is_local(reference) or can_push or on_a_node(reference, facts):
        return
    variant = spec.image.variant
    if spec.image.build is None:
        hint = "launch.image names one in a registry, as registry.example.com/team/dpo-launcher@sha256:…"
    else:
        hint = f"launcher build --variant {variant} --push --registry registry.example.com/team; submit with the same --registry"
    yield Mistake("image", f"{reference} is on this machine only: the cluster cannot pull it", hint=hint)


def is_local(reference: str) -> bool:
    """Whether only this machine's engine can know the reference: the id of an image, or a name of our own without a registry."""
    return reference.startswith("sha256:") or bool(re.fullmatch(rf"{re.escape(NAME)}(:[\w.-]+)?", reference))


def on_a_node(reference: str, facts: Facts) -> bool:
    """Whether a node has the image: it was brought there by hand, as on a workstation."""
    names = {
        name for node in facts.nodes.found or [] for one in node["status"].get("images") or [] for name in one.get("names") or []
    }
    return bool(names & {reference, f"docker.io/library/{reference}", f"docker.io/{reference}", f"localhost/{reference}"})


def _names(spec: KubernetesSpec) -> Iterator[Mistake]:
    longest = spec.job + longest_suffix(spec.kind, spec.nodes)
    if len(longest) > LONGEST or len(host_name(spec.job, spec.kind, spec.nodes - 1)) > LONGEST:
        yield Mistake(
            "--name", f"makes a name of {len(longest)} characters: {longest}", f"at most {LONGEST}", hint="a shorter name"
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
            yield f"not checked: {what}: {answer.unseen}"
    if facts.nodes.found == []:
        yield "the cluster has no node now: the run waits for one"
    for name, roles in _roles(spec).items():
        if "runs" not in roles or not is_of_one_node(facts.claims[name].found):
            continue
        for pod in _users(name, facts):
            node = pod["spec"].get("nodeName")
            if node and _READER.items() <= (pod["metadata"].get("labels") or {}).items():
                yield f"claim {name} can be mounted on one node at a time, and {pod['metadata']['name']} has it on {node}"


def _roles(spec: KubernetesSpec) -> dict[str, list[str]]:
    """Claim -> what of the run lies on it."""
    found: dict[str, list[str]] = {}
    for role, name in spec.claims.items():
        found.setdefault(name, []).append(role)
    return found


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "no access mode"
