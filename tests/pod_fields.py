"""The launcher's list of a pod template's fields, made of the published schemas that the package kubernetes-validate brings.

python -m tests.pod_fields      writes launcher/backends/kubernetes/render/pod_fields.json
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEWEST = "v1.36.0"
FILE = Path(__file__).parents[1] / "launcher" / "backends" / "kubernetes" / "render" / "pod_fields.json"
_TOP = "io.k8s.api.core.v1.PodTemplateSpec"
_ANY = {"Quantity": "quantity", "IntOrString": "int-or-string", "Time": "string", "FieldsV1": "any", "MicroTime": "string"}


def fields() -> dict[str, dict[str, str]]:
    """Type -> field -> its type: ``Name``, ``[Name]``, ``[Name]/key`` for lists that are merged by a key, ``{Name}`` for maps."""
    definitions, found, waiting = _definitions(), dict[str, dict[str, str]](), [_TOP]
    while waiting:
        name = waiting.pop()
        short = _short(name)
        if short in found or short in _ANY:
            continue
        found[short] = {}
        for field, of in sorted(definitions[name].get("properties", {}).items()):
            kind, refs = _kind(of)
            found[short][field] = kind
            waiting += refs
    return {"of": {"version": NEWEST.removeprefix("v").removesuffix(".0")}, **dict(sorted(found.items()))}


def text() -> str:
    return json.dumps(fields(), indent=1) + "\n"


def _kind(of: Mapping[str, Any]) -> tuple[str, list[str]]:
    if "$ref" in of:
        name = of["$ref"].rpartition("/")[2]
        return _ANY.get(_short(name), _short(name)), [name]
    kind = next((one for one in _listed(of.get("type")) if one != "null"), "any")
    if kind == "array":
        inner, refs = _kind(of["items"])
        key = of.get("x-kubernetes-patch-merge-key", "") if "merge" in of.get("x-kubernetes-patch-strategy", "") else ""
        return f"[{inner}]" + (f"/{key}" if key else ""), refs
    if kind == "object":
        inner, refs = _kind(of["additionalProperties"]) if isinstance(of.get("additionalProperties"), dict) else ("any", [])
        return f"{{{inner}}}", refs
    return kind, []


def _listed(types: Any) -> list[str]:
    return [types] if isinstance(types, str) else list(types or [])


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _definitions() -> dict[str, Any]:
    found = importlib.util.find_spec("kubernetes_validate")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "kubernetes-json-schema" / f"{NEWEST}-local-strict"
    definitions: dict[str, Any] = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return definitions


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
