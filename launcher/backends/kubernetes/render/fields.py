"""The fields of a pod template as Kubernetes defines them: unknown ones and values of a wrong type. Pure but for one file.

``pod_fields.json`` is made of the published schemas (``python -m tests.pod_fields``; a test compares them). A newer server may
know more fields: then the newest list of this program is out of date, and says which version it is of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from ....errors import Mistake, nearest
from .quantities import number

TEMPLATE: Final = "PodTemplateSpec"
_WORDS: Final = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "int-or-string": (int, str),
}  # fmt: skip


def wrong_fields(value: Any, kind: str, where: str) -> Iterator[Mistake]:
    """Every mistake in ``value``, which must be of ``kind``; null stands for the removal of a field and fits everywhere."""
    if value is None or kind == "any":
        return
    inner, key = element(kind)
    if inner is not None:
        if not isinstance(value, list):
            yield Mistake(where, "must be a list", found=_shown(value))
            return
        for index, item in enumerate(value):
            yield from _of_element(item, inner, key, f"{where}.{index}")
    elif kind.startswith("{") or kind in _fields():
        if not isinstance(value, Mapping):
            yield Mistake(where, "must be a mapping", found=_shown(value))
            return
        for name, item in value.items():
            yield from _of_field(str(name), item, kind, where)
    else:
        yield from _of_scalar(value, kind, where)


def _of_element(item: Any, inner: str, key: str | None, where: str) -> Iterator[Mistake]:
    if item is None:
        yield Mistake(where, "must not be null", hint="an element of a list cannot be removed")
    elif key is not None and isinstance(item, Mapping) and item.get(key) is None:
        yield Mistake(where, f"has no {key}, which identifies it for the merge", expected=f"{key}: …")
    else:
        yield from wrong_fields(item, inner, where)


def _of_field(name: str, item: Any, kind: str, where: str) -> Iterator[Mistake]:
    of = field(kind, name)
    if of is not None:
        yield from wrong_fields(item, of, f"{where}.{name}")
        return
    known = list(_fields()[kind])
    hint = nearest(name, known)
    if kind == TEMPLATE:
        hint = f"write it below spec, as spec: {{{name}: …}}" if field("PodSpec", name) else "write metadata and spec"
    yield Mistake(f"{where}.{name}", f"unknown field in a {kind} of Kubernetes {version()}", hint=hint)


def _of_scalar(value: Any, kind: str, where: str) -> Iterator[Mistake]:
    if kind == "quantity":
        try:
            number(value)
        except ValueError:
            yield Mistake(where, "must be a quantity, such as 500m or 8Gi", found=_shown(value))
        return
    types = _TYPES.get(kind)
    is_of_type = types is None or (isinstance(value, types) and (not isinstance(value, bool) or bool in types))
    if not is_of_type:
        must = _WORDS.get(kind, "text or a whole number")
        hint = f'quote it: "{_shown(value)}"' if kind == "string" and not isinstance(value, Mapping | list) else None
        yield Mistake(where, f"must be {must}", found=_shown(value), hint=hint)


def field(kind: str, name: str) -> str | None:
    """The kind of a field of ``kind``; None if unknown. A map ``{kind}`` has every field."""
    if kind.startswith("{"):
        return kind[1:-1]
    return _fields().get(kind, {}).get(name)


def element(kind: str) -> tuple[str | None, str | None]:
    """(kind of an element, the key by which elements are merged), each None where it has none."""
    if not kind.startswith("["):
        return None, None
    inner, _, key = kind[1:].rpartition("]")
    return inner, key.lstrip("/") or None


def version() -> str:
    return _fields()["of"]["version"]


@cache
def _fields() -> Mapping[str, Mapping[str, str]]:
    found: Mapping[str, Mapping[str, str]] = json.loads(Path(__file__).with_name("pod_fields.json").read_text(encoding="utf-8"))
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"
