"""Every value of a pod patch, with its place in the patch and in the pod, and what the pod has there without it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .fields import element, field


@dataclass(frozen=True)
class Visit:
    """``keys``: the path in the patch, with indexes of lists; ``at``: in the pod, with the names of elements in their place.

    ``before``: the pod's value without the patch, None where it has none. ``is_leaf``: nothing of the value is visited by itself.
    """

    keys: tuple[str | int, ...]
    at: tuple[str, ...]
    value: Any
    before: Any
    is_leaf: bool


def visits(value: Any, before: Any, kind: str, keys: tuple[str | int, ...] = (), at: tuple[str, ...] = ()) -> Iterator[Visit]:
    """From the outside in; ``value``: of ``kind`` and free of unknown fields."""
    inner, key = element(kind)
    is_map, is_merged = isinstance(value, Mapping), inner is not None and key is not None and bool(value)
    if at:
        yield Visit(keys, at, value, before, not (is_map and value) and not is_merged)
    if isinstance(value, Mapping):
        there = before if isinstance(before, Mapping) else {}
        for name, item in value.items():
            yield from visits(item, there.get(name), field(kind, name) or "any", (*keys, name), (*at, name))
    elif is_merged:
        named = {one[key]: one for one in before or ()}
        for index, item in enumerate(value):
            name = item[key]
            yield from visits(item, named.get(name), inner or "any", (*keys, index), (*at, str(name)))
