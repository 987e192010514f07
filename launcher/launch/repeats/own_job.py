"""Gives one point of a sweep in a shared Job its own Job, made from the sweep's inputs. The sweep may still be running."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .rebuilt import Rebuilt, made

if TYPE_CHECKING:
    from ...backends.kubernetes.api.cluster import Cluster
    from ...backends.kubernetes.backend import Kubernetes
    from ...backends.kubernetes.follow.run import ClusterRun
    from ...backends.kubernetes.render.placement import Local


def own_job(where: Kubernetes, run: ClusterRun, obj: Mapping[str, Any], say: Callable[[str], None]) -> Callable[[], ClusterRun]:
    """A function that creates a Job for the point ``run`` of the Job ``obj``, after checks. ``say``: receives progress lines.

    The other points are not touched, and the Job ``obj`` never starts this point again. Raises ApiError if a ConfigMap of the
    sweep is gone, NotReady for preflight findings.
    """
    from ...job.resume import Recorded

    volumes = {one["name"]: one["configMap"] for one in obj["spec"]["template"]["spec"]["volumes"] if "configMap" in one}
    texts = {path: text.decode() for path, text in _files(where.cluster, run, volumes["config"]).items()}
    own = {path.removeprefix(f"{run.index}/"): text for path, text in texts.items() if path.startswith(f"{run.index}/")}
    recorded = Recorded.parsed(run.name, own["experiment.json"], own.get("deepspeed.json"), json.loads(own["record.json"]))
    say(f"{run.name}: it gets its own Job; the other points of {run.sweep} are not touched")
    local = _local(where.cluster, run, volumes, str(recorded.experiment.datasets_path))
    return partial(_create, made(where, run, recorded, local, own["experiment.json"], say), obj)


def _create(ready: Rebuilt, obj: Mapping[str, Any]) -> ClusterRun:
    from ...backends.kubernetes.follow.apart import note_end, set_apart
    from ...backends.kubernetes.follow.state import ended_at

    where, run, before = ready.where, ready.run, ready.where.status(ready.run)
    set_apart(where.cluster, run, obj)  # first, as two pods must never write to its folder
    try:
        return ready.create()
    except BaseException:
        note_end(where.cluster, run, before, ended_at(obj))  # unchanged since
        raise


def _local(cluster: Cluster, run: ClusterRun, volumes: Mapping[str, Mapping[str, Any]], path: str) -> Local:
    """Data files and certificates from the sweep's ConfigMaps. ``path``: of the data in the pods."""
    from ...backends.kubernetes.render.placement import Folder, Local
    from ...backends.kubernetes.render.pod import CA_FILE

    ca = _files(cluster, run, volumes["ca"])[CA_FILE].decode() if "ca" in volumes else None
    if "inputs" not in volumes:
        return Local(ca=ca)
    found = _files(cluster, run, volumes["inputs"])
    return Local(Folder(Path(path), {name: len(content) for name, content in found.items()}, ""), found, ca=ca)


def _files(cluster: Cluster, run: ClusterRun, source: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a ConfigMap volume, by their path in it."""
    found = cluster.get(f"/api/v1/namespaces/{run.namespace}/configmaps/{source['name']}")
    contents = {name: text.encode() for name, text in (found.get("data") or {}).items()}
    contents |= {name: base64.b64decode(text) for name, text in (found.get("binaryData") or {}).items()}
    paths = {one["key"]: one["path"] for one in source.get("items") or []}
    return {paths.get(key, key): content for key, content in contents.items()}
