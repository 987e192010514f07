"""Whether a quota leaves room for a run, and whether any node could ever hold its pod. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from ..render.pod import ARCHITECTURE
from ..render.quantities import number, shown

Obj = Mapping[str, Any]
_REPELS: Final = ("NoSchedule", "NoExecute")


Amounts = dict[str, Fraction]  # by resource


def requests(pod: Obj) -> Amounts:
    """What a pod with the spec ``pod`` requests; a limit without a request counts as one."""
    return _of_pod(pod, lambda resources: {**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _of_pod(pod: Obj, of: Callable[[Obj], Obj]) -> Amounts:
    """As the scheduler and quotas count it: all containers that run together, which sidecars do (init containers that restart
    always), or an init container beside the sidecars before it if that takes more."""
    sidecars: Amounts = {}
    most: Amounts = {}
    for one in pod.get("initContainers") or []:
        amounts = _of_container(one, of)
        if one.get("restartPolicy") == "Always":
            sidecars = _sum(sidecars, amounts)
        most = _larger(most, sidecars if one.get("restartPolicy") == "Always" else _sum(sidecars, amounts))
    together = sidecars
    for one in pod["containers"]:
        together = _sum(together, _of_container(one, of))
    return _larger(most, together)


def _of_container(container: Obj, of: Callable[[Obj], Obj]) -> Amounts:
    return {name: number(value) for name, value in of(container.get("resources") or {}).items()}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, Fraction(0)) + other.get(name, Fraction(0)) for name in {**one, **other}}


def _larger(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, Fraction(0)), other.get(name, Fraction(0))) for name in {**one, **other}}


def over_quota(quotas: Sequence[Obj], pod: Obj, pods: int, objects: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(quota, resource with amounts) for each quota that the run would exceed; ``pod``: its spec, ``pods``: how many run at the
    same time, ``objects``: plural -> how many the run creates.
    """
    asked: Amounts = {"pods": Fraction(pods), "count/pods": Fraction(pods)}
    for name, value in requests(pod).items():
        asked[f"requests.{name}"] = value * pods
        if name in ("cpu", "memory", "ephemeral-storage"):
            asked[name] = value * pods
    limits = _of_pod(pod, lambda resources: resources.get("limits") or {})
    asked |= {f"limits.{name}": value * pods for name, value in limits.items()}
    for plural, count in objects.items():
        asked |= {plural: Fraction(count), f"count/{plural}": Fraction(count)}
    for quota in quotas:
        if not _counts(quota, pod.get("priorityClassName")):
            continue
        status = quota.get("status") or {}
        hard = {**(quota.get("spec") or {}).get("hard", {}), **(status.get("hard") or {})}
        used = status.get("used") or {}
        for name in sorted(asked.keys() & hard.keys()):
            most, taken = number(hard[name]), number(used.get(name, 0))
            if asked[name] + taken > most:
                left = f"{shown(name, max(most - taken, Fraction(0)))} of {shown(name, most)} available"
                yield f"quota {quota['metadata']['name']}", f"{name}: {shown(name, asked[name])} needed, {left}"


def _counts(quota: Obj, priority: str | None) -> bool:
    """Whether the quota counts pods like ours: with requests, without a deadline, and of this priority class."""
    spec = quota.get("spec") or {}
    scopes = {"NotBestEffort", "NotTerminating", *(["PriorityClass"] if priority else [])}
    selected = (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return set(spec.get("scopes") or []) <= scopes and all(_selects(one, priority, scopes) for one in selected)


def _selects(expression: Obj, priority: str | None, scopes: set[str]) -> bool:
    if expression["scopeName"] != "PriorityClass":
        return expression["scopeName"] in scopes
    is_one = priority in (expression.get("values") or [])
    return {"In": is_one, "NotIn": not is_one, "Exists": priority is not None}.get(expression["operator"], priority is None)


def unfit(nodes: Sequence[Obj], pod: Obj) -> str | None:
    """Why no node could hold a pod with the spec ``pod``, even an empty node; None if one could, or if no node exists yet."""
    asked = requests(pod)
    reasons: Counter[str] = Counter()
    for node in nodes:
        found = list(_against(node, pod, asked))
        if not found:
            return None
        reasons.update(found)
    if not nodes:
        return None
    counted = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    return f"of {len(nodes)} node{'s' * (len(nodes) > 1)}: " + "; ".join(_counted(count, reason) for reason, count in counted)


def tolerable(nodes: Sequence[Obj], pod: Obj) -> list[str]:
    """The keys of the taints that alone keep a pod with the spec ``pod`` from a node: of the one that has the fewest."""
    tolerant = {**pod, "tolerations": [{"operator": "Exists"}]}
    asked = requests(pod)
    held = [_repelled(node, pod) for node in nodes if not list(_against(node, tolerant, asked))]
    return sorted({taint["key"] for taint in min(held, key=len, default=[])})


def _repelled(node: Obj, pod: Obj) -> list[Obj]:
    """The taints of ``node`` that the pod does not tolerate; the node's own conditions are not among them."""
    return [
        taint
        for taint in (node.get("spec") or {}).get("taints") or []
        if taint.get("effect") in _REPELS
        and not str(taint.get("key", "")).startswith("node.kubernetes.io/")
        and not _tolerated(taint, pod.get("tolerations") or [])
    ]


def _counted(nodes: int, reason: str) -> str:
    """``2 have no cpu``, ``1 has no cpu``."""
    verb, _, rest = reason.partition(" ")
    return f"{nodes} {verb if nodes > 1 else _OF_ONE[verb]} {rest}"


def _against(node: Obj, pod: Obj, asked: Mapping[str, Fraction]) -> Iterator[str]:
    """Every reason why ``node`` cannot hold the pod."""
    spec, status, labels = node.get("spec") or {}, node.get("status") or {}, node["metadata"].get("labels") or {}
    ready = next((one["status"] for one in status.get("conditions") or [] if one["type"] == "Ready"), "True")
    if spec.get("unschedulable"):
        yield "are cordoned"
    elif ready != "True":
        yield "are not ready"
    for key, value in (pod.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            yield (
                f"are not {value}, for which the image is built"
                if key == ARCHITECTURE
                else f"lack the label {key}={value} of launch.kubernetes.node_selector"
            )
    for taint in _repelled(node, pod):
        yield f"have the taint {taint['key']}{'=' + taint['value'] if taint.get('value') else ''}:{taint['effect']}"
    there = status.get("allocatable") or {}
    for name, wanted in asked.items():
        has = number(there.get(name, 0))
        if has < wanted:
            has_none = "have no" if not has else "have too little"
            yield f"{has_none} {name} ({shown(name, wanted)} requested)"


_OF_ONE: Final = {"are": "is", "lack": "lacks", "have": "has"}


def _tolerated(taint: Obj, tolerations: Sequence[Obj]) -> bool:
    return any(
        one.get("effect") in (None, "", taint.get("effect"))
        and (
            (one.get("operator") == "Exists" and one.get("key") in (None, "", taint.get("key")))
            or (one.get("key") == taint.get("key") and (one.get("value") or "") == (taint.get("value") or ""))
        )
        for one in tolerations
    )
