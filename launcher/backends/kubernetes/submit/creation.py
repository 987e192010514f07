"""Creating a run's objects on a cluster: all are tried with a dry run first, and a failure half-way leaves none behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

from ....errors import Aborted, LauncherError, Mistake, UnreachableError, Warned
from ....why import Evidence, refusal
from ..api.cluster import Cluster
from ..api.errors import ApiError, ClusterError, unless
from ..follow.run import ClusterRun
from ..follow.state import queue_of
from ..render.kinds import JOB, KINDS
from ..render.names import label_value
from ..render.spec import KubernetesSpec
from .preflight import NotReady
from .probes import is_denied, is_held, is_no_right, is_webhook_silent

Obj = Mapping[str, Any]
Made = dict[str, tuple[Obj, str | None]]  # path -> what was created there, and its uid, None where the answer was lost
_AT_ONCE: Final = 8
_PLACES: Final = {
    "Service": ("/api/v1", "services"),
    "ConfigMap": ("/api/v1", "configmaps"),
    **{kind.name: (f"/apis/{kind.version}", kind.plural) for kind in KINDS.values()},
}


_HELD: Final = (
    "the cluster suspends a {kind} that is in no queue (Kueue's manageJobsWithoutQueueName): the run would wait for ever; submit "
    "it with --queue, and list the queues with: kubectl -n {namespace} get localqueues"
)


_QUEUED: Final = (
    "the cluster puts the run into queue {queue}, as Kueue does where a namespace has a default queue: submit it with "
    "--queue {queue}, and the pods request only what queues cover"
)


class HalfWay(LauncherError):
    """A run was not created; objects created before the failure were removed, except ``left``."""

    def __init__(self, run: str, why: str, left: Sequence[str], *, may_pass: bool = False):
        self.left = tuple(left)
        if may_pass:
            self.exit_code = UnreachableError.exit_code
        said = "nothing was left behind" if not left else f"could not be removed: {', '.join(left)}"
        first, *hints = why.splitlines()
        super().__init__("\n".join([f"{run} not submitted: {first}", f"    {said}", *hints]))


class Interrupted(HalfWay, Aborted):
    """The same, after Ctrl-C."""

    exit_code = Aborted.exit_code


def try_all(cluster: Cluster, spec: KubernetesSpec, namespace: str) -> list[Warned]:
    """Creates the objects in a dry run: the server checks schemas, names, webhooks and quotas. Returns what it changes that keeps
    the run from starting.

    Raises NotReady with everything that it refuses.
    """
    notices: list[Warned] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        tried = [pool.submit(cluster.create, _place(obj, namespace), _in(obj, namespace), True) for obj in spec.objects]
        refused: list[Mistake] = []
        may_pass = True
        for obj, answer in zip(spec.objects, tried, strict=True):
            try:
                made = answer.result()
                if obj is spec.owner and is_held(made):
                    notices.append(Warned(_HELD.format(kind=obj["kind"], namespace=namespace)))
                elif obj is spec.owner and spec.queue is None and (queue := queue_of(made)) is not None:
                    notices.append(Warned(_QUEUED.format(queue=queue)))
            except ApiError as error:
                refused.append(_taken(cluster, spec, obj, namespace) if error.status == 409 else _refusal(obj, error, namespace))
                may_pass = may_pass and error.exit_code == UnreachableError.exit_code
    if refused:
        raise NotReady(refused, may_pass=may_pass)
    return notices


def create(cluster: Cluster, spec: KubernetesSpec, namespace: str) -> ClusterRun:
    """Creates what the pods need, then the Job, JobSet or TrainJob, and makes it the owner of the other objects.

    Raises HalfWay, or Interrupted after Ctrl-C, once the objects created before are removed.

    A launcher that is killed before the Job exists leaves objects without an owner: they run nothing, `launcher doctor` lists
    them, and `launcher rm` removes them. A suspended Job that comes first would own them from the beginning, and is no better. It
    stays, too, as only finished Jobs have a TTL, and counts in quotas of Jobs. In a queue it does not wait for the others: Kueue
    may start it at once, and pods that wait for a ConfigMap which never comes keep their GPUs. Nor can its queue be set later:
    policies, such as the one in Kueue's documentation, refuse a Job without a queue. And `suspend` would have a third meaning,
    beside `stop` and Kueue: each could undo another.
    """
    *others, owner = spec.objects
    made: Made = {}
    # Leaving the pool waits for its answers: else an object whose creation was interrupted could appear after its removal.
    with _removed_on_failure(cluster, spec.run, namespace, made), ThreadPoolExecutor(_AT_ONCE) as pool:
        for answer in [pool.submit(_create, cluster, obj, namespace, made) for obj in others]:
            answer.result()
        found = pool.submit(_create, cluster, owner, namespace, made).result()
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": found["metadata"]["name"],
            "uid": found["metadata"]["uid"],
            "controller": True,
        }
        patch = {"metadata": {"ownerReferences": [reference]}}
        for changed in [pool.submit(cluster.patch, _path(obj, namespace), patch) for obj in others]:
            changed.result()
    return ClusterRun.of(found)


def _create(cluster: Cluster, obj: Obj, namespace: str, made: Made) -> dict[str, Any]:
    """Creates one object. If the connection broke, or the server failed on the way, and an object with its contents exists now,
    it is ours: its name was free a moment ago.
    """
    place, path, wanted = _place(obj, namespace), _path(obj, namespace), _in(obj, namespace)
    made[path] = obj, None
    try:
        found = cluster.create(place, wanted)
    except ApiError as error:
        if error.status < 500 or is_webhook_silent(error):  # nothing was stored
            del made[path]
            raise
        found = _created(cluster, place, path, wanted, made)
    except ClusterError:
        found = _created(cluster, place, path, wanted, made)
    made[path] = obj, found["metadata"]["uid"]
    return found


def _created(cluster: Cluster, place: str, path: str, wanted: Obj, made: Made) -> dict[str, Any]:
    """The object, whose creation may have been done or not."""
    try:
        return cluster.create(place, wanted)
    except ApiError as error:
        if error.status != 409:
            raise
        found = cluster.get(path)
        if not _is_same(found, wanted):  # somebody else was faster with the name
            del made[path]
            raise
        return found


def _is_same(found: Obj, wanted: Obj) -> bool:
    """Whether the server's object is ``wanted``, to which webhooks may have added labels and annotations. It has no owner yet."""
    there, ours = found["metadata"], wanted["metadata"]
    if there.get("ownerReferences"):
        return False
    is_named = all((there.get(part) or {}).items() >= (ours.get(part) or {}).items() for part in ("labels", "annotations"))
    return is_named and all(found.get(part) == wanted.get(part) for part in ("data", "binaryData"))


@contextmanager
def _removed_on_failure(cluster: Cluster, run: str, namespace: str, made: Made) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(run, "interrupted", _remove(cluster, namespace, made)) from None
    except LauncherError as error:
        may_pass = error.exit_code == UnreachableError.exit_code
        raise HalfWay(run, str(error), _remove(cluster, namespace, made), may_pass=may_pass) from error


def _remove(cluster: Cluster, namespace: str, made: Made) -> list[str]:
    """Removes the objects, the newest first; returns the names of those that stay."""
    left: list[str] = []
    those = list(reversed(made.items()))
    for number, (path, (obj, uid)) in enumerate(those):
        try:
            with unless(409):  # ours is gone, and another one has its name
                cluster.delete(path, uid=uid)
        except KeyboardInterrupt:  # a second Ctrl-C: report what is left, and stop
            return [*left, *(_named(one, namespace) for _, (one, _) in those[number:])]
        except LauncherError:
            left.append(_named(obj, namespace))
    return left


def _taken(cluster: Cluster, spec: KubernetesSpec, obj: Obj, namespace: str) -> Mistake:
    """Who has the name of an object: a submit of the same run that was killed leaves what no Job owns."""
    where, metadata = f"{obj['kind']} {obj['metadata']['name']}", dict[str, Any]()
    with suppress(LauncherError):
        metadata = cluster.get(_path(obj, namespace))["metadata"]
    is_ours = (metadata.get("labels") or {}).get("dpo-launcher/run") == label_value(spec.run)
    if is_ours and not metadata.get("ownerReferences") and obj is not spec.owner:
        what = f"was left by a submit of {spec.run} that was ended before it created the run"
        return Mistake(where, what, hint=f"remove it with: launcher rm {spec.run} -n {namespace}; or choose another --name")
    return Mistake(where, "an object with this name already exists", hint="choose another --name")


def _refusal(obj: Obj, error: ApiError, namespace: str) -> Mistake:
    """Why the server refuses an object."""
    where, words = f"{obj['kind']} {obj['metadata']['name']}", error.message
    if "exceeded quota: " in words:
        return Mistake(
            where,
            words[words.index("exceeded quota: ") :],
            hint="launcher ps --cluster lists your runs; remove old ones with: launcher rm RUN",
        )
    if is_webhook_silent(error):
        silent = refusal(Evidence(run=where, backend="kubernetes", state="starting"), words)
        hint = "use --kind job, which needs no add-on" if obj["kind"] in KINDS and obj["kind"] != JOB.name else silent.suggestion
        return Mistake(where, silent.sentence.replace("create pods", "create it"), hint=hint)
    if error.status == 404:
        return Mistake(where, words, hint="launcher doctor --cluster prints what is missing")
    if error.status == 403 and is_no_right(error):
        return Mistake(where, f"permission denied: {words}", hint="ask for the Role in k8s/base/access.yaml")
    if error.status == 403 or is_denied(error):
        seen = Evidence(run="it", backend="kubernetes", state="starting", namespace=namespace, is_helper=True)
        told = refusal(seen, words)
        return Mistake(where, told.sentence, hint=told.suggestion)
    if error.status in (400, 413, 422):
        return Mistake(where, f"the cluster rejects it: {words}")
    return Mistake(where, f"the dry run failed: {words} ({error.status})", hint="submit again")


def _in(obj: Obj, namespace: str) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def _place(obj: Obj, namespace: str) -> str:
    group, plural = _PLACES[obj["kind"]]
    return f"{group}/namespaces/{namespace}/{plural}"


def _path(obj: Obj, namespace: str) -> str:
    return f"{_place(obj, namespace)}/{obj['metadata']['name']}"


def _named(obj: Obj, namespace: str) -> str:
    return f"{_PLACES[obj['kind']][1]}/{obj['metadata']['name']} in {namespace}"
