"""``launch.kubernetes.pod``: a patch that is merged last into the pod template, as a strategic merge patch of Kubernetes. Pure.

Maps are merged, lists by the key that Kubernetes names (containers, env and volumes by name, mounts by path); tolerations are
appended, every other list is replaced, and null removes a field. ``guard`` refuses what a run cannot live without.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ....errors import ExperimentError, Mistake
from ....experiment.schema import Experiment
from . import guard
from .fields import TEMPLATE, element, field, wrong_fields
from .user import CONTAINER_SECURITY
from .visits import Visit, visits
from .volumes import wrong_volumes

SETTING: Final = "launch.kubernetes.pod"
Keys = tuple[str | int, ...]
_APPENDED: Final = "tolerations"
_ALTERNATIVES: Final = ("Volume", "EnvVar")  # of whose fields, beside the name, only one may be set: others are not kept


@dataclass(frozen=True)
class Change:
    """What the patch sets: ``path`` in the pod, the value in JSON, and its place in a file, or ``--set``."""

    path: str
    value: str
    origin: str | None

    def __str__(self) -> str:
        return f"{self.path}{f' ({self.origin})' if self.origin else ''}"


def patched(
    template: Mapping[str, Any], patch: Mapping[str, Any], gpu: str, origins: Mapping[Keys, str]
) -> tuple[dict[str, Any], tuple[Change, ...]]:
    """The template with ``patch``, and what that changes; ``gpu``: the resource of GPUs, ``origins``: of the experiment's leaves.

    Raises ExperimentError with every field that is unknown, and every one that a run cannot do without.
    """
    wrong = list(wrong_fields(patch, TEMPLATE, SETTING))
    if wrong:
        raise ExperimentError(wrong)
    seen = list(visits(patch, template, TEMPLATE))
    refused = list(guard.refused(seen, template, patch, gpu, SETTING))
    if refused:
        raise ExperimentError(refused)
    made = _merged(template, patch, TEMPLATE)
    pod = made["spec"]
    for container in pod.get("initContainers", ()):
        container["securityContext"] = _merged(CONTAINER_SECURITY, container.get("securityContext") or {}, "SecurityContext")
    if pod.get("hostNetwork") and "dnsPolicy" not in pod:
        pod["dnsPolicy"] = "ClusterFirstWithHostNet"  # else the nodes' names are not resolved
    return made, tuple(_changes(seen, origins))


def wrong_pod(experiment: Experiment) -> list[Mistake]:
    """What is wrong in the volumes, and which fields of the patch Kubernetes does not know; rendering refuses more."""
    return [*wrong_volumes(experiment), *wrong_fields(experiment.launch.kubernetes.pod, TEMPLATE, SETTING)]


def _merged(base: Mapping[str, Any], patch: Mapping[str, Any], kind: str) -> dict[str, Any]:
    made = dict(base)
    if kind in _ALTERNATIVES:
        made = {name: value for name, value in base.items() if name in patch}
    for name, value in patch.items():
        of = field(kind, name)
        if value is None:
            made.pop(name, None)
        elif of is not None:
            made[name] = _value(made.get(name), value, of, name)
    return made


def _value(before: Any, value: Any, kind: str, name: str) -> Any:
    inner, key = element(kind)
    if isinstance(value, Mapping):
        return _merged(before or {}, value, kind)
    if inner is None or before is None:
        return [_merged({}, one, inner) if inner and isinstance(one, Mapping) else one for one in value] if inner else value
    if name == _APPENDED:
        return [*before, *(one for one in value if one not in before)]
    if key is None:
        return value
    made = {one[key]: one for one in before}
    for one in value:
        made[one[key]] = _merged(made.get(one[key], {}), one, inner)
    return list(made.values())


def _changes(seen: list[Visit], origins: Mapping[Keys, str]) -> Iterator[Change]:
    """One for each field of the pod, of its container, and each element of their lists."""
    top, told = ("launch", "kubernetes", "pod"), set[tuple[str, ...]]()
    for visit in seen:
        depth = _depth(visit.at)
        is_told = len(visit.at) == depth or (visit.is_leaf and len(visit.at) < depth)
        if not is_told or visit.at[-1] == "name" or visit.at in told:
            continue
        told.add(visit.at)
        path = (*top, *visit.keys)
        origin = next((label for leaf, label in origins.items() if leaf[: len(path)] == path), None)
        value = "removed" if visit.value is None else json.dumps(visit.value, ensure_ascii=False, default=str)
        yield Change(".".join(visit.at), value, origin)


def _depth(at: tuple[str, ...]) -> int:
    """How deep a path is told."""
    match at[:4]:
        case ("spec", "containers", _, "resources"):
            return 6
        case ("spec", "containers", _, "env" | "volumeMounts" | "securityContext"):
            return 5
        case ("spec", "containers", *_):
            return 4
        case ("metadata", *_) | ("spec", "volumes" | "initContainers" | "nodeSelector" | "securityContext", *_):
            return 3
    return 2
