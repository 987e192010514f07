"""A run's objects are created on a cluster: all of them are tried first, and a failure half-way leaves none behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from ....errors import Aborted, LauncherError, Mistake
from ..api.cluster import Cluster
from ..api.errors import ApiError, ClusterError
from ..follow.run import ClusterRun
from ..render.spec import KubernetesSpec
from .preflight import NotReady

Obj = Mapping[str, Any]
_AT_ONCE: Final = 8
_PLACES: Final = {
    "Service": ("/api/v1", "services"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Job": ("/apis/batch/v1", "jobs"),
    "JobSet": ("/apis/jobset.x-k8s.io/v1alpha2", "jobsets"),
}


class HalfWay(LauncherError):
    """A run was not created, and what had been was removed, but for ``left``."""

    def __init__(self, run: str, why: str, left: Sequence[str]):
        self.left = tuple(left)
        said = "nothing of it is left" if not left else f"this could not be removed: {', '.join(left)}"
        super().__init__(f"{run} was not submitted: {why}\n    {said}")


class Interrupted(HalfWay, Aborted):
    """The same, by Ctrl-C."""

    exit_code = Aborted.exit_code


def try_all(cluster: Cluster, spec: KubernetesSpec, namespace: str) -> None:
    """Lets the server go through everything that it will check when the objects are created: schemas, names, webhooks, quotas.

    Raises NotReady with all that it refuses.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        tried = [pool.submit(cluster.create, _place(obj, namespace), _in(obj, namespace), True) for obj in spec.objects]
        refused: list[Mistake] = []
        for obj, answer in zip(spec.objects, tried, strict=True):
            try:
                answer.result()
            except ApiError as error:
                refused.append(_refusal(obj, error))
    if refused:
        raise NotReady(refused)


def create(cluster: Cluster, spec: KubernetesSpec, namespace: str) -> ClusterRun:
    """Creates what the pods need, then the Job or JobSet, and makes that the owner of the others.

    Raises HalfWay, or Interrupted for Ctrl-C, when the objects that had been created are removed again.
    """
    *others, owner = spec.objects
    made: list[Obj] = []
    # Leaving the pool waits for its answers: an object whose creation was interrupted half-way would come after its removal.
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


def _create(cluster: Cluster, obj: Obj, namespace: str, made: list[Obj]) -> dict[str, Any]:
    """Creates one object. Where the connection broke, it may be there: the name was free a moment ago, so it is ours then."""
    place, wanted = _place(obj, namespace), _in(obj, namespace)
    made.append(obj)
    try:
        return cluster.create(place, wanted)
    except ApiError:
        made.remove(obj)
        raise
    except ClusterError:
        try:
            return cluster.create(place, wanted)
        except ApiError as error:
            if error.status != 409:
                raise
            return cluster.get(_path(obj, namespace))


@contextmanager
def _removed_on_failure(cluster: Cluster, run: str, namespace: str, made: list[Obj]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(run, "it was interrupted", _remove(cluster, namespace, made)) from None
    except LauncherError as error:
        raise HalfWay(run, str(error), _remove(cluster, namespace, made)) from error


def _remove(cluster: Cluster, namespace: str, made: Sequence[Obj]) -> list[str]:
    """Removes the newest first; the names of those that stay."""
    left: list[str] = []
    for number, obj in enumerate(reversed(made)):
        try:
            cluster.delete(_path(obj, namespace))
        except KeyboardInterrupt:  # a second one: say what is there, and go
            return [*left, *(_named(one, namespace) for one in list(reversed(made))[number:])]
        except LauncherError:
            left.append(_named(obj, namespace))
    return left


def _refusal(obj: Obj, error: ApiError) -> Mistake:
    """What the server has against an object, in a sentence."""
    where, words = f"{obj['kind']} {obj['metadata']['name']}", error.message
    webhook, denied, why = words.partition(" denied the request: ")
    if denied:
        name = webhook.partition('"')[2].partition('"')[0]
        return Mistake(where, f"the cluster's own rules ({name}) refuse it: {why}", hint="ask who runs the cluster")
    if "exceeded quota: " in words:
        return Mistake(where, words[words.index("exceeded quota: ") :], hint="launcher ps lists what is there; older runs can go")
    if error.status == 409:
        return Mistake(where, "an object of that name exists already", hint="another --name")
    if error.status == 404:
        return Mistake(where, words, hint="launcher doctor --cluster says what is missing")
    if error.status == 403:
        return Mistake(where, f"you may not create it: {words}", hint="ask for the Role of k8s/base/access.yaml")
    if error.status in (400, 413, 422):
        return Mistake(where, f"the cluster does not take it: {words}")
    return Mistake(where, f"the cluster did not answer the trial: {words} ({error.status})", hint="submit it again")


def _in(obj: Obj, namespace: str) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def _place(obj: Obj, namespace: str) -> str:
    group, plural = _PLACES[obj["kind"]]
    return f"{group}/namespaces/{namespace}/{plural}"


def _path(obj: Obj, namespace: str) -> str:
    return f"{_place(obj, namespace)}/{obj['metadata']['name']}"


def _named(obj: Obj, namespace: str) -> str:
    return f"{_PLACES[obj['kind']][1]}/{obj['metadata']['name']} in {namespace}"
