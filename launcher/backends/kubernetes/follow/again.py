"""Starting a run that is over again, in its own folder: its Job is unsuspended, or created again from its own spec."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from ....errors import LauncherError
from ..api.cluster import ApiError, Cluster
from ..render.kinds import JOB, JOBSET, TRAINJOB, kind_of
from ..render.trainjob import MANAGER
from . import state
from .owner import delete_owner
from .pods import conditions_of
from .run import ClusterRun

_GONE: Final = 300.0  # seconds to wait for the deletion of the old object
# Labels that the server adds to a Job and its pods, to tell them from others of the same name.
_SERVERS: Final = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")


def start_again(cluster: Cluster, run: ClusterRun, obj: Mapping[str, Any]) -> None:
    """``obj`` is the run's object, and over. A stopped one is unsuspended; one that ended, or has points that failed, is
    deleted and created again, and its Service and ConfigMaps stay: a point that is done ends at once. Raises LauncherError with
    the command to type if that fails."""
    now = cluster.now().isoformat(timespec="seconds")
    has_ended = any(condition.is_true and condition.type in state.ENDED for condition in conditions_of(obj))
    if not has_ended and not state.is_deleted(obj) and not (obj.get("status") or {}).get("failedIndexes"):
        annotations = {state.STOPPED: None, state.ABORTED: None, state.RESUMED: now}
        cluster.patch(run.place, {"metadata": {"annotations": annotations}, "spec": {"suspend": False}})
        return
    manifest = made_of(obj, now)
    collection = run.place.rpartition("/")[0]
    # A dry run, as a quota or a webhook may refuse the new object: the old one still exists then.
    # Under a name of the same length, which is usually free.
    cluster.create(collection, _called(manifest, run.job[:-1] + ("x" if run.job.endswith("r") else "r")), dry_run=True)
    owned = list(_owned(cluster, run, obj))
    for path, _ in owned:
        cluster.patch(path, {"metadata": {"ownerReferences": None}})
    delete_owner(cluster, run, obj["metadata"]["uid"], propagation="Foreground")
    wait_until_free(cluster, run)
    try:
        made = cluster.create(collection, manifest)
    except LauncherError as error:
        raise LauncherError(
            f"{run.name}: its {run.kind} was deleted, and cannot be created again: {error}\n"
            f"    hint:     its folder is kept; retry with: launcher resume {run.name}"
        ) from error
    for path, reference in owned:
        cluster.patch(path, {"metadata": {"ownerReferences": [{**reference, "uid": made["metadata"]["uid"]}]}})


def made_of(obj: Mapping[str, Any], resumed: str) -> dict[str, Any]:
    """The manifest that creates ``obj`` again: without what the server added, and without its end. Pure."""
    metadata, spec = obj["metadata"], deepcopy(dict(obj["spec"]))
    annotations = dict(metadata.get("annotations") or {})
    kept = {k: v for k, v in annotations.items() if k not in (state.STOPPED, state.ABORTED) and not k.startswith("batch.")}
    for name in ("selector", "manualSelector", "suspend"):
        spec.pop(name, None)
    if "template" in spec:
        labels = spec["template"].setdefault("metadata", {}).get("labels") or {}
        spec["template"]["metadata"]["labels"] = {k: v for k, v in labels.items() if k not in _SERVERS}
        spec["template"]["metadata"].pop("creationTimestamp", None)
    kind = kind_of(obj)
    if kind is TRAINJOB:  # without that of Kueue, which chooses nodes anew
        spec["runtimePatches"] = [one for one in spec["runtimePatches"] if one["manager"] == MANAGER]
    return {
        "apiVersion": kind.version,
        "kind": kind.name,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {k: v for k, v in (metadata.get("labels") or {}).items() if k not in _SERVERS},
            "annotations": {**kept, state.RESUMED: resumed},
        },
        "spec": spec,
    }


def _called(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}


def _owned(cluster: Cluster, run: ClusterRun, obj: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, reference to its owner) of the Service and the ConfigMaps that are deleted with ``obj``."""
    label = (obj["metadata"].get("labels") or {}).get("dpo-launcher/run", run.name)
    # A JobSet creates and deletes its own Service, also that of a TrainJob.
    for kind in ("services", "configmaps") if run.kind == JOB.name else ("configmaps",):
        collection = f"/api/v1/namespaces/{run.namespace}/{kind}"
        for one in cluster.list(collection, f"dpo-launcher/run={label}"):
            references = one["metadata"].get("ownerReferences") or []
            if [reference["uid"] for reference in references] == [run.uid]:
                yield f"{collection}/{one['metadata']['name']}", references[0]


def wait_until_free(cluster: Cluster, run: ClusterRun) -> None:
    """Returns when a new object may have the name of ``run``, whose own is deleted; raises LauncherError after minutes.

    Trainer gives a TrainJob the end of any JobSet of its name, also that of a deleted one.
    """
    _wait_until_gone(cluster, run, run.place, run.kind)
    if run.kind == TRAINJOB.name:
        _wait_until_gone(cluster, run, f"{JOBSET.collection(run.namespace)}/{run.job}", JOBSET.name)


def _wait_until_gone(cluster: Cluster, run: ClusterRun, path: str, kind: str) -> None:
    deadline = time.monotonic() + _GONE
    while True:
        try:
            cluster.get(path)
        except ApiError as error:
            if error.status == 404 or (error.status == 403 and kind != run.kind):  # it may not be read
                return
            raise
        if time.monotonic() > deadline:
            raise LauncherError(f"{run.name}: its {kind} is still being deleted; retry with: launcher resume {run.name}")
        time.sleep(0.2)
