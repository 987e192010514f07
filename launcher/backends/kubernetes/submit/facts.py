"""What a cluster has for a run: everything that the preflight checks need, asked at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ... import Status
from ..api.cluster import Cluster
from ..api.errors import ApiError
from ..api.permissions import PERMISSIONS, Permission
from ..follow.listed import listed
from ..follow.run import ClusterRun
from ..render.kinds import JOB, JOBSET, TRAINJOB
from ..render.names import label_value
from .probes import Tried, has_jobset_controller, has_kueue_controller, small, try_pod
from .trainer import Trainer, look_at_trainer

Obj = Mapping[str, Any]
_AT_ONCE: Final = 16  # requests
_RUNS: Final = "app.kubernetes.io/name=dpo-launcher,app.kubernetes.io/component=run"
_JOBSETS: Final = f"/apis/{JOBSET.version}"
_TRAINER: Final = f"/apis/{TRAINJOB.version}"
_KUEUE: Final = "/apis/kueue.x-k8s.io"


@dataclass(frozen=True)
class Answer:
    """``found``: the object, or the objects; None if missing. ``unseen``: why that is not known, or None."""

    found: Any = None
    unseen: str | None = None


@dataclass(frozen=True)
class Question:
    """What is asked. ``claims``: role -> claim; ``verbs``: the launcher's verbs whose permissions are checked; ``template``:
    of the pods that the server must take, in a namespace with these annotations; ``is_trainjob``: whether the run is a TrainJob.
    """

    namespace: str
    run: str
    claims: Mapping[str, str]
    secret: str | None
    queue: str | None
    verbs: tuple[str, ...]
    template: Callable[[Mapping[str, str]], Obj] = small
    is_trainjob: bool = False


@dataclass(frozen=True)
class Facts:
    """``denied``: permission -> verbs that the caller lacks. ``earlier``: the objects of runs with the same name. ``version``:
    the answer of /version.

    ``claims`` and ``classes`` are by name; ``queue`` is the LocalQueue, ``has_kueue`` whether the cluster serves Kueue, and
    ``kueue_works`` whether its webhook answered a dry run, None if that is unknown; the same for JobSet. ``trainer``: only
    tried for a TrainJob. ``pod``: a dry run.
    ``pods``: all of the namespace, only asked for if a claim cannot be mounted on several nodes. ``listed``: the runs of the
    namespace with their states, only asked for if a quota counts objects.
    """

    denied: Mapping[Permission, tuple[str, ...]]
    namespace: Answer
    claims: Mapping[str, Answer]
    classes: Mapping[str, Answer]
    secret: Answer
    queue: Answer
    has_kueue: bool
    has_jobset: bool
    kueue_works: bool | None
    jobset_works: bool | None
    trainer: Trainer
    pod: Tried
    quotas: Answer
    nodes: Answer
    pods: Answer
    earlier: Sequence[Obj]
    version: Answer = Answer()
    listed: Sequence[tuple[ClusterRun, Status]] = ()

    @property
    def annotations(self) -> Mapping[str, str]:
        """The namespace's."""
        return _annotations(self.namespace)

    @property
    def takes_jobsets(self) -> bool:
        """Whether somebody works on a JobSet, as far as can be known."""
        return self.has_jobset and self.jobset_works is not False


def gather(cluster: Cluster, asked: Question) -> Facts:
    """Asks in three stages, each at once. Raises ClusterError if the cluster does not answer or rejects the credentials."""
    inside = f"/api/v1/namespaces/{asked.namespace}"
    label = f"{_RUNS},dpo-launcher/run={label_value(asked.run)}"
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ask = _Asking(cluster, pool, asked)
        # Stage 1: what depends on no other answer.
        namespace, jobset, kueue, trainer = (ask.one(path) for path in (inside, _JOBSETS, _KUEUE, _TRAINER))
        earlier = [ask.many(kind.collection(asked.namespace), label) for kind in (JOB, JOBSET, TRAINJOB)]
        claims = {name: ask.one(f"{inside}/persistentvolumeclaims/{name}") for name in set(asked.claims.values())}
        secret = ask.one(f"{inside}/secrets/{asked.secret}" if asked.secret is not None else None)
        version = ask.one("/version")
        quotas, nodes = ask.many(f"{inside}/resourcequotas"), ask.many("/api/v1/nodes")
        reviews = ask.reviews(None)
        # Stage 2: what the namespace's annotations and the served APIs decide.
        annotations = _annotations(namespace.result())
        pod = pool.submit(try_pod, cluster, asked.namespace, asked.template(annotations))
        served = _served({"JobSet": jobset, "Kueue": kueue, "Trainer": trainer})
        reviews |= ask.reviews(*served)
        queue = ask.one(_queue_path(asked, kueue.result()))
        jobset_works, kueue_works = ask.works(small(annotations), "JobSet" in served, "Kueue" in served)
        tried = pool.submit(look_at_trainer, cluster, asked.namespace, is_served="Trainer" in served, is_tried=asked.is_trainjob)
        # Stage 3: what the claims and the quotas decide.
        found = {name: answer.result() for name, answer in claims.items()}
        pods = ask.many(f"{inside}/pods" if any(is_of_one_node(claim.found) for claim in found.values()) else None)
        runs = pool.submit(_listed, cluster, asked.namespace, quotas.result())
        classes = {name: ask.one(f"/apis/storage.k8s.io/v1/storageclasses/{name}") for name in _classes(found.values())}
        return Facts(
            denied=_denied({asked: answer.result() for asked, answer in reviews.items()}),
            namespace=namespace.result(),
            claims=found,
            classes={name: answer.result() for name, answer in classes.items()},
            secret=secret.result(),
            queue=queue.result(),
            has_kueue="Kueue" in served,
            has_jobset="JobSet" in served,
            kueue_works=kueue_works.result(),
            jobset_works=jobset_works.result(),
            trainer=tried.result(),
            pod=pod.result(),
            quotas=quotas.result(),
            nodes=nodes.result(),
            pods=pods.result(),
            earlier=[obj for answer in earlier for obj in answer.result().found or []],
            version=version.result(),
            listed=runs.result(),
        )


@dataclass(frozen=True)
class _Asking:
    """Requests that are sent at the same time. A path of None is not asked: its answer is empty."""

    cluster: Cluster
    pool: ThreadPoolExecutor
    asked: Question

    def one(self, path: str | None) -> Future[Answer]:
        return self.pool.submit(lambda: Answer() if path is None else _seen(lambda: self.cluster.get(path)))

    def many(self, path: str | None, selector: str | None = None) -> Future[Answer]:
        ask = Answer if path is None else lambda: _seen(lambda: list(self.cluster.list(path, selector)))
        return self.pool.submit(ask)

    def works(self, pod: Obj, has_jobset: bool, has_kueue: bool) -> tuple[Future[bool | None], Future[bool | None]]:
        """Whether the controllers of JobSet and of Kueue seem to run; what is not served is not asked."""
        where = self.cluster, self.asked.namespace
        jobset = self.pool.submit(lambda: has_jobset_controller(*where, pod) if has_jobset else None)
        queue = self.asked.queue or "dpo-launcher-probe"
        return jobset, self.pool.submit(lambda: has_kueue_controller(*where, queue, pod) if has_kueue else None)

    def reviews(self, *addons: str | None) -> dict[tuple[Permission, str], Future[bool]]:
        """Whether the caller has each permission of ``addons``, or of the cluster itself (None)."""
        wanted = [(p, verb) for addon in addons for p, verb in _wanted(self.asked.verbs) if p.addon == addon]
        return {(p, verb): self.pool.submit(_may, self.cluster, p, verb, self.asked.namespace) for p, verb in wanted}


def _served(addons: Mapping[str, Future[Answer]]) -> list[str]:
    """The names of the add-ons that the cluster serves."""
    return [name for name, answer in addons.items() if answer.result().found is not None]


def _annotations(namespace: Answer) -> Mapping[str, str]:
    return ((namespace.found or {}).get("metadata") or {}).get("annotations") or {}


def _queue_path(asked: Question, kueue: Answer) -> str | None:
    """The path of the LocalQueue in the served version; None without a queue or without Kueue."""
    if asked.queue is None or kueue.found is None:
        return None
    version = kueue.found["preferredVersion"]["groupVersion"]
    return f"/apis/{version}/namespaces/{asked.namespace}/localqueues/{asked.queue}"


def is_of_one_node(claim: Obj | None) -> bool:
    """Whether a claim can only be mounted on one node at a time."""
    modes = set((claim or {}).get("spec", {}).get("accessModes") or [])
    return bool(modes) and not modes & {"ReadWriteMany", "ReadOnlyMany"}


def _seen(ask: Callable[[], Any]) -> Answer:
    try:
        return Answer(ask())
    except ApiError as error:
        if error.status == 404:
            return Answer()
        return Answer(unseen="permission denied" if error.status == 403 else error.message)


def _wanted(verbs: Iterable[str]) -> list[tuple[Permission, str]]:
    return [(one, verb) for one in PERMISSIONS if one.needed_by in verbs for verb in one.verbs]


def _may(cluster: Cluster, permission: Permission, verb: str, namespace: str) -> bool:
    """Whether the caller has the verb; True if that cannot be asked: then the request itself fails."""
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


def _listed(cluster: Cluster, namespace: str, quotas: Answer) -> list[tuple[ClusterRun, Status]]:
    """The runs with their states, if a quota counts Jobs, Services or ConfigMaps."""
    hard = {name for quota in quotas.found or [] for name in (quota.get("spec") or {}).get("hard") or {}}
    if not any(name.startswith("count/") or name in ("services", "configmaps") for name in hard):
        return []
    with suppress(ApiError):
        return [(one.run, one.status) for one in listed(cluster, namespace, with_pods=False)]
    return []


def _classes(claims: Iterable[Answer]) -> set[str]:
    """The storage classes of claims without a volume."""
    pending = [one.found for one in claims if one.found and (one.found.get("status") or {}).get("phase") == "Pending"]
    return {name for one in pending if (name := one["spec"].get("storageClassName"))}
