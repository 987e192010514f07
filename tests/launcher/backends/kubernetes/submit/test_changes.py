"""What a cluster changes of pods is told before they are created; what it only fills in is not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster_api import ClusterApi
from tests.launcher.backends.kubernetes.submit.preflighted import looked

IMAGE = "registry.example.com/team/dpo-launcher"


def _defaults(spec: dict[str, Any], container: dict[str, Any]) -> None:
    """What every API server fills in."""
    spec |= {"schedulerName": "default-scheduler", "serviceAccountName": "default", "dnsPolicy": "ClusterFirst", "priority": 0}
    spec["tolerations"] = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]
    resources = container["resources"]
    resources["requests"] |= {name: count for name, count in resources["limits"].items() if "/" in name}
    resources["limits"]["cpu"] = f"{int(resources['limits']['cpu'])}000m"


def _mirrored(_: dict[str, Any], container: dict[str, Any]) -> None:
    container["image"] = container["image"].replace("registry.example.com", "mirror.example.com")


def _limited(_: dict[str, Any], container: dict[str, Any]) -> None:
    container["resources"]["requests"]["memory"] = "8Gi"
    container["resources"]["limits"] |= {"memory": "8Gi", "ephemeral-storage": "1Gi"}


def _selected(spec: dict[str, Any], _: dict[str, Any]) -> None:
    spec["nodeSelector"] = {**spec.get("nodeSelector", {}), "pool": "cpu"}
    spec["priorityClassName"] = "low"
    spec["securityContext"].pop("runAsUser")


def _wrapped(spec: dict[str, Any], container: dict[str, Any]) -> None:
    spec["containers"] = [{**container, "name": "wrapper"}]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_defaults, None),
        (_wrapped, "the container trainer is replaced by wrapper"),
        (_mirrored, "image {image} becomes {mirror}"),
        (_limited, "requests.memory 26Gi becomes 8Gi; limits.ephemeral-storage is set to 1Gi; limits.memory 26Gi becomes 8Gi"),
        (_selected, "priorityClassName training becomes low; nodeSelector pool gpus becomes cpu; runAsUser 10001 is removed"),
    ],
)
def test_what_a_webhook_or_a_limit_range_changes_is_told(change: Any, told: str | None, api: ClusterApi) -> None:
    before = api.objects.mutate

    def mutate(kind: Any, obj: dict[str, Any]) -> None:
        before(kind, obj)
        if kind.plural == "pods":
            change(obj["spec"], obj["spec"]["containers"][0])

    api.objects.mutate = mutate
    api.objects.put({"kind": "PriorityClass", "metadata": {"name": "training"}})
    api.objects.put({"kind": "PriorityClass", "metadata": {"name": "low"}})
    settings = {"queue": "research", "priority_class": "training", "node_selector": {"pool": "gpus"}}
    found = [one for one in looked(api, {"gpus": 1, "kubernetes": settings}).notices if "changes the pods" in one]
    image = f"{IMAGE}@sha256:{'0123456789abcdef' * 4}"
    words = (told or "").format(image=image, mirror=image.replace("registry", "mirror"))
    assert found == ([f"the cluster changes the pods (a webhook or a LimitRange): {words}"] if told else [])
