"""Whether a folder already stands on a claim: a pod that runs and mounts the claim is asked, so that no other pod is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from ....errors import LauncherError
from ..api.cluster import Cluster
from ..api.errors import ExecError
from ..render.placement import CACHE

_OURS: Final = "app.kubernetes.io/name=dpo-launcher"
_MISSING: Final = 1  # exit code of test
_ASKED: Final = 3  # pods


def stands(cluster: Cluster, namespace: str, claim: str, target: str, below: str = "") -> bool:
    """Whether the folder ``target``, a path below the cache in a pod, is on ``claim``; False too where no pod can tell.

    ``below``: the part of the claim that a run's pods mount as their cache, empty for all of it.
    A staged folder is named by the digest of its contents, and appears whole or not at all: its name is enough.
    """
    with suppress(LauncherError):
        pods = list(cluster.list(f"/api/v1/namespaces/{namespace}/pods", _OURS))
        mounts = [found for pod in pods if (found := _mount(pod, claim, below)) is not None]
        for pod, container, root in mounts[:_ASKED]:
            answer = _asked(cluster, namespace, pod, container, root + target.removeprefix(CACHE))
            if answer is not None:
                return answer
    return False


def _asked(cluster: Cluster, namespace: str, pod: str, container: str, path: str) -> bool | None:
    """None where the pod does not answer."""
    try:
        for _ in cluster.exec(pod, container, ["test", "-d", path], namespace):
            pass
    except ExecError as error:
        return False if error.code == _MISSING else None
    except LauncherError:
        return None
    return True


def _mount(pod: Mapping[str, Any], claim: str, below: str) -> tuple[str, str, str] | None:
    """(pod, container, path of the cache there) of a running container that mounts the claim, or its part ``below``."""
    if (pod.get("status") or {}).get("phase") != "Running" or pod["metadata"].get("deletionTimestamp"):
        return None
    volumes = {
        one["name"]
        for one in pod["spec"].get("volumes") or []
        if (one.get("persistentVolumeClaim") or {}).get("claimName") == claim
    }
    return next(_mounts(pod, volumes, below), None)


def _mounts(pod: Mapping[str, Any], volumes: set[str], below: str) -> Iterator[tuple[str, str, str]]:
    for container in pod["spec"]["containers"]:
        for mount in container.get("volumeMounts") or []:
            part = str(mount.get("subPath") or "")
            if mount["name"] in volumes and part in ("", below):
                rest = "" if part == below else f"/{below}"
                yield pod["metadata"]["name"], container["name"], mount["mountPath"].rstrip("/") + rest
