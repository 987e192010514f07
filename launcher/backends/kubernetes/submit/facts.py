"""What a cluster says of the place where a run is to be: everything that preflight judges, asked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from ..api.cluster import Cluster
from ..api.errors import ApiError
from ..api.permissions import PERMISSIONS, Permission
from ..render.names import label_value

Obj = Mapping[str, Any]
_AT_ONCE: Final = 16  # questions
_RUNS: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=run"
_JOBSETS: Final = "/apis/jobset.x-k8s.io/v1alpha2"
_KUEUE: Final = "/apis/kueue.x-k8s.io"


@dataclass(frozen=True)
class Answer:
    """``found`` is the object, or the objects; None where there is none. ``unseen`` says why that is not known."""

    found: Any = None
    unseen: str | None = None


@dataclass(frozen=True)
class Question:
    """What is asked about. ``claims``: role -> claim; ``verbs``: of the launcher, as permissions are needed by them."""

    namespace: str
    run: str
    claims: Mapping[str, str]
    secret: str | None
    queue: str | None
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """``denied``: permission -> verbs that the caller lacks. ``earlier``: Jobs and JobSets of a run of the same name.

    ``claims`` and ``classes`` are by name; ``queue`` is the LocalQueue, ``has_kueue`` whether the cluster knows such a kind.
    ``pods`` are those of the namespace, asked for where a claim cannot be mounted everywhere.
    """

    denied: Mapping[Permission, tuple[str, ...]]
    namespace: Answer
    claims: Mapping[str, Answer]
    classes: Mapping[str, Answer]
    secret: Answer
    queue: Answer
    has_kueue: bool
    has_jobset: bool
    quotas: Answer
    nodes: Answer
    pods: Answer
    earlier: Sequence[Obj]


def gather(cluster: Cluster, asked: Question) -> Facts:
    """Raises ClusterError where the cluster does not answer, or does not know the caller."""
    inside = f"/api/v1/namespaces/{asked.namespace}"
    with ThreadPoolExecutor(_AT_ONCE) as pool:

        def one(path: str) -> Future[Answer]:
            return pool.submit(_one, cluster, path)

        def many(path: str, selector: str | None = None) -> Future[Answer]:
            return pool.submit(_many, cluster, path, selector)

        label = f"{_RUNS},dpo-launcher/run={label_value(asked.run)}"
        namespace = one(f"/api/v1/namespaces/{asked.namespace}")
        jobset, kueue = one(_JOBSETS), one(_KUEUE)
        jobs = many(f"/apis/batch/v1/namespaces/{asked.namespace}/jobs", label)
        jobsets = many(f"{_JOBSETS}/namespaces/{asked.namespace}/jobsets", label)
        claims = {name: one(f"{inside}/persistentvolumeclaims/{name}") for name in set(asked.claims.values())}
        secret = one(f"{inside}/secrets/{asked.secret}") if asked.secret is not None else None
        quotas, nodes = many(f"{inside}/resourcequotas"), many("/api/v1/nodes")
        wanted = _wanted(asked.verbs)
        reviews = {(p, v): pool.submit(_may, cluster, p, v, asked.namespace) for p, v in wanted if p.addon is None}
        served = {"JobSet": jobset.result().found is not None, "Kueue": kueue.result().found is not None}
        reviews |= {
            (p, v): pool.submit(_may, cluster, p, v, asked.namespace) for p, v in wanted if p.addon and served.get(p.addon)
        }
        queue = Answer()
        if asked.queue is not None and (group := kueue.result().found) is not None:
            version = group["preferredVersion"]["groupVersion"]
            queue = one(f"/apis/{version}/namespaces/{asked.namespace}/localqueues/{asked.queue}").result()
        found_claims = {name: answer.result() for name, answer in claims.items()}
        pods = many(f"{inside}/pods") if any(is_of_one_node(claim.found) for claim in found_claims.values()) else None
        classes = {name: one(f"/apis/storage.k8s.io/v1/storageclasses/{name}") for name in _classes(found_claims.values())}
        return Facts(
            denied=_denied({asked: answer.result() for asked, answer in reviews.items()}),
            namespace=namespace.result(),
            claims=found_claims,
            classes={name: answer.result() for name, answer in classes.items()},
            secret=secret.result() if secret is not None else Answer(),
            queue=queue,
            has_kueue=served["Kueue"],
            has_jobset=served["JobSet"],
            quotas=quotas.result(),
            nodes=nodes.result(),
            pods=pods.result() if pods is not None else Answer(),
            earlier=[obj for answer in (jobs, jobsets) for obj in answer.result().found or []],
        )


def is_of_one_node(claim: Obj | None) -> bool:
    """Whether a claim can be mounted on one node at a time."""
    modes = set((claim or {}).get("spec", {}).get("accessModes") or [])
    return bool(modes) and not modes & {"ReadWriteMany", "ReadOnlyMany"}


def _one(cluster: Cluster, path: str) -> Answer:
    return _seen(lambda: cluster.get(path))


def _many(cluster: Cluster, path: str, selector: str | None) -> Answer:
    return _seen(lambda: list(cluster.list(path, selector)))


def _seen(ask: Callable[[], Any]) -> Answer:
    try:
        return Answer(ask())
    except ApiError as error:
        if error.status == 404:
            return Answer()
        return Answer(unseen="you may not see it" if error.status == 403 else error.message)


def _wanted(verbs: Iterable[str]) -> list[tuple[Permission, str]]:
    return [(one, verb) for one in PERMISSIONS if one.needed_by in verbs for verb in one.verbs]


def _may(cluster: Cluster, permission: Permission, verb: str, namespace: str) -> bool:
    """Whether the caller has the verb; True where nobody may ask, as then the request itself will tell."""
    try:
        review = cluster.review(permission.review(verb, namespace))
    except ApiError:
        return True
    return bool(review["status"].get("allowed"))


def _denied(reviews: Mapping[tuple[Permission, str], bool]) -> dict[Permission, tuple[str, ...]]:
    found: dict[Permission, tuple[str, ...]] = {}
    for (permission, verb), is_allowed in reviews.items():
        if not is_allowed:
            found[permission] = (*found.get(permission, ()), verb)
    return found


def _classes(claims: Iterable[Answer]) -> set[str]:
    """The storage classes of claims that have no volume yet."""
    pending = [one.found for one in claims if one.found and (one.found.get("status") or {}).get("phase") == "Pending"]
    return {name for one in pending if (name := one["spec"].get("storageClassName"))}
