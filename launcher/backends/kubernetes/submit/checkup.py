"""What runs need on a cluster, and whether it is present: for `launcher doctor --cluster`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from ....why import namespace as findings
from ....why.doctor import Finding
from ....why.namespace import CLAIMS
from ..api.cluster import ApiError, Cluster
from ..api.permissions import PERMISSIONS, SECRET
from ..follow import beside, removal
from .facts import Answer, Facts, Question, gather
from .probes import explained
from .trainer import wrong_trainer


def look(cluster: Cluster) -> list[Finding]:
    """Every finding, in the order in which they depend on each other. Raises ClusterError if no cluster answers."""
    where = cluster.namespace
    minor = findings.minor_of(cluster.get("/version"))
    found = [findings.version(minor, f"{cluster.host} (context {cluster.context})")]
    verbs = tuple({one.needed_by for one in PERMISSIONS})
    facts = gather(cluster, Question(where, "doctor", CLAIMS, SECRET, None, verbs, is_trainjob=True))
    nodes = facts.nodes
    apply = findings.applied_by(len(nodes.found) if nodes.found is not None else None, where)
    if facts.namespace.unseen is not None:
        found.append(findings.unseen("namespace", f"{where}: {facts.namespace.unseen}"))
    else:
        found += findings.namespace(where, facts.namespace.found, apply)
        if facts.namespace.found is None:
            return found
    found += findings.permissions(_denied(facts), where, apply)
    claims = [
        _of(f"claim {name}", facts.claims[name], lambda obj, name=name: findings.claim(name, obj, where, apply))  # type: ignore[misc]
        for name in CLAIMS.values()
    ]
    found += claims
    found += _pods_beside(cluster, where, apply)
    found += _strays(cluster, where)
    found.append(_pods(facts, where))
    found.append(_of(f"secret {SECRET}", facts.secret, lambda obj: findings.secret(SECRET, obj)))
    found.append(findings.addon("JobSet", is_served=facts.has_jobset, works=facts.jobset_works))
    found.append(findings.addon("Kueue", is_served=facts.has_kueue, works=facts.kueue_works))
    if facts.trainer.is_served:
        wrong = next(wrong_trainer(facts.trainer, where), None)
        found.append(findings.trainer(wrong, works=facts.trainer.works, is_own=facts.trainer.has_own_runtime))
    found.append(_of("nodes", nodes, lambda those: findings.nodes(those or [])))
    classes = _listed(cluster, "/apis/storage.k8s.io/v1/storageclasses")
    are_bound = all(claim.state == "ok" for claim in claims)
    found.append(_of("StorageClass", classes, lambda those: findings.storage_class(those or [], are_bound=are_bound)))
    return found


def _pods(facts: Facts, where: str) -> Finding:
    if facts.pod.unseen is not None:
        return findings.unseen("pods", f"not tried: {facts.pod.unseen}")
    return findings.pods(explained(facts.pod, "a run", where))


def _strays(cluster: Cluster, where: str) -> list[Finding]:
    """Only where there are some; who may not list them is told by the permissions."""
    with suppress(ApiError):
        return [findings.strays(run, those, where) for run, those in sorted(removal.strays(cluster, where).items())]
    return []


def _pods_beside(cluster: Cluster, where: str, apply: str) -> Iterator[Finding]:
    """The reader, and servers of models if there are some."""
    at = f"/api/v1/namespaces/{where}/pods"
    readers = _listed(cluster, at, beside.READER)
    why = beside.explain(cluster, where, readers.found or [], "reader", beside.DEPLOYMENT) if readers.unseen is None else None
    yield _of("reader", readers, lambda pods: findings.reader(pods or [], where, apply, why))
    for pod in _listed(cluster, at, beside.SERVERS).found or []:
        name = pod["metadata"]["labels"].get("dpo-launcher/serve", pod["metadata"]["name"])
        conditions = (pod.get("status") or {}).get("conditions") or []
        is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        why = None if is_ready else beside.explain(cluster, where, [pod], "server", "")
        yield findings.server(name, pod["metadata"]["name"], where, why, is_ready=is_ready)


def _denied(facts: Facts) -> dict[str, list[str]]:
    """Launcher verb that stops working -> the verbs and resources that the caller lacks."""
    found: dict[str, list[str]] = {}
    for permission, verbs in facts.denied.items():
        found.setdefault(permission.needed_by, []).extend(f"{verb} {permission.resource}" for verb in verbs)
    return found


def _of(what: str, answer: Answer, judge: Callable[[Any], Finding]) -> Finding:
    return findings.unseen(what, answer.unseen) if answer.unseen is not None else judge(answer.found)


def _listed(cluster: Cluster, path: str, selector: str | None = None) -> Answer:
    try:
        return Answer(list[Mapping[str, Any]](cluster.list(path, selector)))
    except ApiError as error:
        return Answer(unseen="permission denied" if error.status == 403 else error.message)
