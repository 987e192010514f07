"""What webhooks and LimitRanges change of a run's pods when the server takes them: image, resources, node selector. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..render.quantities import number

Obj = Mapping[str, Any]
_OF_PODS: Final = ("priorityClassName", "runtimeClassName", "schedulerName", "serviceAccountName")
_PARTS: Final = ("requests", "limits")


def changes(sent: Obj, taken: Obj) -> Iterator[str]:
    """One phrase for each change of the pod with the spec ``sent``, which the server would store with the spec ``taken``.

    What it only fills in (defaults of the API, tolerations, volumes of tokens) does not count, but for limits of resources and
    labels of nodes: a run may exceed the ones, and no node have the others.
    """
    ours = sent["containers"][0]
    theirs = next((one for one in taken["containers"] if one["name"] == ours["name"]), None)
    if theirs is None:
        yield f"the container {ours['name']} is replaced by {', '.join(one['name'] for one in taken['containers'])}"
        return
    for name in _OF_PODS:
        if name in sent and taken.get(name) != sent[name]:
            yield f"{name} {sent[name]} becomes {taken.get(name)}"
    before, after = sent.get("nodeSelector") or {}, taken.get("nodeSelector") or {}
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield _told(f"nodeSelector {key}", before.get(key), after.get(key))
    user, now = (one.get("securityContext", {}).get("runAsUser") for one in (sent, taken))
    if user is not None and user != now:
        yield _told("runAsUser", user, now)
    if theirs["image"] != ours["image"]:
        yield f"image {ours['image']} becomes {theirs['image']}"
    yield from _resources(ours.get("resources") or {}, theirs.get("resources") or {})


def _resources(before: Obj, after: Obj) -> Iterator[str]:
    for part in _PARTS:
        old, new = before.get(part) or {}, after.get(part) or {}
        for name in sorted({*old, *new}):
            is_own_limit = part == "requests" and name not in old and new[name] == (before.get("limits") or {}).get(name)
            if not is_own_limit and not _is_same(old.get(name), new.get(name)):
                yield _told(f"{part}.{name}", old.get(name), new.get(name))


def _is_same(one: Any, other: Any) -> bool:
    return one == other or (one is not None and other is not None and number(one) == number(other))


def _told(what: str, before: Any, after: Any) -> str:
    if before is None:
        return f"{what} is set to {after}"
    return f"{what} {before} is removed" if after is None else f"{what} {before} becomes {after}"
