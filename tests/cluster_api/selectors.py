"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .kinds import Kind
from .refusal import bad_request

Test = Callable[[Mapping[str, Any]], bool]
_SET = re.compile(r"^(!?)([\w./-]+)$|^([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)$|^([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)$")


def labels(selector: str | None) -> Test:
    """Whether an object's labels fit ``selector``; 400 for one that cannot be read."""
    tests = [_label(part.strip()) for part in re.split(r",(?![^(]*\))", selector)] if selector else []
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _label(part: str) -> Test:
    found = _SET.match(part)
    if found is None:
        raise bad_request(f"unable to parse requirement: {part}")
    absent, key, name, operator, value, several, kind, values = found.groups()
    if key:
        return lambda labels: (key in labels) != bool(absent)
    if name:
        return (lambda labels: labels.get(name) != value) if operator == "!=" else (lambda labels: labels.get(name) == value)
    wanted = {one.strip() for one in values.split(",")}
    return (lambda labels: labels.get(several) in wanted) if kind == "in" else (lambda labels: labels.get(several) not in wanted)


def fields(selector: str | None, kind: Kind) -> Test:
    """Whether an object's fields fit ``selector``; 400 for a field that this kind cannot be chosen by."""
    tests: list[Test] = []
    for part in filter(None, (selector or "").split(",")):
        name, operator, value = re.split(r"(==|!=|=)", part, maxsplit=1)
        if name not in ("metadata.name", "metadata.namespace", *kind.fields):
            raise bad_request(f"field label not supported: {name}")
        tests.append(_field(name.split("."), value, operator == "!="))
    return lambda obj: all(test(obj) for test in tests)


def _field(path: list[str], value: str, negated: bool) -> Test:
    def test(obj: Mapping[str, Any]) -> bool:
        found: Any = obj
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return (("" if found is None else str(found)) == value) != negated

    return test
