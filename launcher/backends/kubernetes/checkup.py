"""What a cluster has of all that runs need, as far as the caller may look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ... import doctor
from ...doctor import CLAIMS, Finding
from .cluster import ApiError, Cluster
from .permissions import PERMISSIONS, SECRET, Permission

_READER: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=reader"
_GROUPS: Final = {"JobSet": "jobset.x-k8s.io", "Kueue": "kueue.x-k8s.io"}
_AT_ONCE: Final = 8  # access reviews


def look(cluster: Cluster) -> list[Finding]:
    """Every finding, those first without which others make no sense. Raises ClusterError where no cluster answers."""
    where = cluster.namespace
    minor = str(cluster.get("/version").get("minor", ""))
    found = [doctor.version(minor, f"{cluster.host} (context {cluster.context})")]
    nodes = _listed(cluster, "/api/v1/nodes")
    apply = doctor.applied_by(None if isinstance(nodes, str) else len(nodes))
    space = _one(cluster, f"/api/v1/namespaces/{where}")
    if isinstance(space, str):
        found.append(doctor.unseen("namespace", f"{where}: {space}"))
    else:
        found += doctor.namespace(where, space, apply)
        if space is None:
            return found
    groups = [group["name"] for group in cluster.get("/apis").get("groups") or []]
    found += doctor.permissions(denied(cluster, groups), where, apply)
    claims = [_of(cluster, "persistentvolumeclaims", name, lambda obj, name=name: doctor.claim(name, obj, where, apply))  # type: ignore[misc]
              for name in CLAIMS.values()]  # fmt: skip
    found += claims
    readers = _listed(cluster, f"/api/v1/namespaces/{where}/pods", _READER)
    found.append(doctor.unseen("reader", readers) if isinstance(readers, str) else doctor.reader(readers, where, apply))
    found.append(_of(cluster, "secrets", SECRET, lambda obj: doctor.secret(SECRET, obj)))
    found += doctor.addons(groups)
    found.append(doctor.unseen("nodes", nodes) if isinstance(nodes, str) else doctor.nodes(nodes))
    classes = _listed(cluster, "/apis/storage.k8s.io/v1/storageclasses")
    are_bound = all(claim.state == "ok" for claim in claims)
    if isinstance(classes, str):
        found.append(doctor.unseen("StorageClass", classes))
    else:
        found.append(doctor.storage_class(classes, are_bound=are_bound))
    return found


def denied(cluster: Cluster, groups: list[str]) -> dict[str, list[str]]:
    """What the caller may not do in the cluster's namespace: what stops working -> verbs and resources."""
    asked = [(one, verb) for one in PERMISSIONS if one.addon is None or _GROUPS[one.addon] in groups for verb in one.verbs]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        allowed = list(pool.map(lambda ask: _may(cluster, *ask), asked))
    found: dict[str, list[str]] = {}
    for (permission, verb), may in zip(asked, allowed, strict=True):
        if not may:
            found.setdefault(permission.needed_by, []).append(f"{verb} {permission.resource}")
    return found


def _may(cluster: Cluster, permission: Permission, verb: str) -> bool:
    review = permission.review(verb, cluster.namespace)
    answer = cluster.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool((answer.get("status") or {}).get("allowed"))


def _of(cluster: Cluster, kind: str, name: str, judge: Callable[[Mapping[str, Any] | None], Finding]) -> Finding:
    obj = _one(cluster, f"/api/v1/namespaces/{cluster.namespace}/{kind}/{name}")
    return (
        doctor.unseen(f"{'claim' if kind.endswith('claims') else 'secret'} {name}", obj) if isinstance(obj, str) else judge(obj)
    )


def _one(cluster: Cluster, path: str) -> Mapping[str, Any] | str | None:
    """The object; None if it is not there, and words where the caller may not see it."""
    try:
        return cluster.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        if error.status == 403:
            return "you may not look at it"
        raise


def _listed(cluster: Cluster, path: str, selector: str | None = None) -> list[dict[str, Any]] | str:
    try:
        return list(cluster.list(path, selector))
    except ApiError as error:
        if error.status == 403:
            return "you may not list them"
        raise
