"""The claims of a run: whether each exists, has a volume, and can be mounted by all pods that need it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ....errors import Mistake
from ....published import with_manifests
from ....why.namespace import CLAIMS, MADE
from ..render.spec import KubernetesSpec
from .facts import Facts

APPLY: Final = "kubectl apply -k k8s/overlays/cluster (one machine: k8s/overlays/workstation)"
_ONE_POD: Final = "ReadWriteOncePod"
_HELD: Final = {"runs": "the runs", "cache": "the cached models", "data": "the data"}


def wrong_claims(spec: KubernetesSpec, facts: Facts, namespace: str) -> Iterator[Mistake]:
    """Claims that are missing, have no volume, or cannot be mounted as the run needs them."""
    for name, roles in roles_of(spec).items():
        answer, where = facts.claims[name], f"claim {name}"
        if answer.unseen is not None:
            continue
        if answer.found is None:
            held = " and ".join(_HELD.get(role, f"the volume {role}") for role in roles)
            what = f"not found in namespace {namespace}; it holds {held}"
            elsewhere = "" if namespace == MADE else f" in the namespace {MADE} (for --namespace {MADE})"
            made = f"create {' and '.join(CLAIMS.values())}{elsewhere} with: {with_manifests(APPLY)}"
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
        users = [pod["metadata"]["name"] for pod in users_of(name, facts)]
        if users:
            what = f"can only be mounted by one pod ({_ONE_POD}), and {users[0]} uses it"
            yield Mistake(where, what, "ReadWriteMany or ReadWriteOnce", hint="create the claim with another access mode")


def users_of(claim: str, facts: Facts) -> Iterator[Mapping[str, Any]]:
    """The pods that mount a claim and have not ended."""
    for pod in facts.pods.found or []:
        volumes = [one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["spec"].get("volumes") or []]
        if claim in volumes and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            yield pod


def roles_of(spec: KubernetesSpec) -> dict[str, list[str]]:
    """Claim -> its roles."""
    found: dict[str, list[str]] = {}
    for role, name in spec.claims.items():
        found.setdefault(name, []).append(role)
    return found


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "no access mode"
