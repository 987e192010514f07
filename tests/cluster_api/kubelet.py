"""What a kubelet does with the ConfigMaps of a pod, and the entry of a sweep's pod with its stop files, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import ClusterApi, controllers

Object = dict[str, Any]


def starts(api: ClusterApi, pod: str, namespace: str = "default") -> str:
    """The kubelet mounts the pod's ConfigMaps and starts it: its entry runs, or finds its stop file and ends with 49. Returns
    the pod's phase: one whose ConfigMap does not exist, and is not optional, stays Pending."""
    obj = api.objects.get("pods", pod, namespace)
    for volume in (one for one in obj["spec"].get("volumes") or [] if "configMap" in one):
        if mounted(api, obj, volume) is None:
            missing = volume["configMap"]["name"]
            controllers.event(
                api,
                obj,
                "FailedMount",
                f'MountVolume.SetUp failed for volume "{volume["name"]}" : configmap "{missing}" not found',
            )
            controllers.waiting(api, pod, namespace=namespace)
            return "Pending"
    controllers.running(api, pod, namespace)
    heeds(api, pod, namespace)
    return str(api.objects.get("pods", pod, namespace)["status"]["phase"])


def heeds(api: ClusterApi, pod: str, namespace: str = "default") -> None:
    """The kubelet shows the running pod the ConfigMaps as they are now, and its entry ends as it does where it has a stop file:
    one of a ConfigMap, or one that a command has made below the folder that is its root."""
    obj = api.objects.get("pods", pod, namespace)
    (container, *_) = obj["spec"]["containers"]
    env = {one["name"]: one.get("value", "") for one in container.get("env") or []}
    root = api.commands.get((namespace, pod))
    mounts = {one["name"]: one["mountPath"] for one in container.get("volumeMounts") or []}
    shown = {
        f"{mounts[volume['name']]}/{file}"
        for volume in obj["spec"].get("volumes") or []
        if "configMap" in volume and volume["name"] in mounts
        for file in mounted(api, obj, volume) or {}
    }
    for file in env.get("DPO_STOP", "").replace("$(JOB_COMPLETION_INDEX)", str(controllers.index_of(obj))).split(":"):
        if file in shown or (file and isinstance(root, Path) and (root / file.lstrip("/")).exists()):
            said = {"code": 143, "state": "stopped", "sentence": "stopped on request, after a checkpoint"}
            controllers.terminated(api, pod, 49, message=json.dumps(said), namespace=namespace)
            return


def mounted(api: ClusterApi, pod: Object, volume: Object) -> dict[str, str] | None:
    """The files of a pod's ConfigMap volume, by their paths below it; None where the kubelet cannot mount it."""
    source = volume["configMap"]
    found = api.objects.find("configmaps", source["name"], pod["metadata"]["namespace"])
    if found is None:
        return {} if source.get("optional") else None
    data = {**(found.get("data") or {}), **(found.get("binaryData") or {})}
    if "items" not in source:
        return data
    if any(one["key"] not in data for one in source["items"]) and not source.get("optional"):
        return None
    return {one["path"]: data[one["key"]] for one in source["items"] if one["key"] in data}
