"""The JSON schema of experiment files, for editors: keys, types, defaults, sentences. ``launcher check`` finds more mistakes."""

from __future__ import annotations

from typing import Any, Final

from ..other_tools.neutral import NAMES
from ..other_tools.trl_fields import FIELDS, REFUSED, trl_fields
from ..schema import Experiment
from ..sections.on import EFFECTS

_TYPES: Final = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "list": "array", "dict": "object"}
_TEXT: Final = r"\$\{\w+|^[-+]?[\d.]+[eE][-+]?\d+$"  # a variable, or 1e-5, which YAML 1.1 reads as text
_ACTIONS: Final = ("Check", "HealthRule")  # a rule may be its action alone


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. A mapping with an ``experiment_id`` is an experiment; other mappings are blocks for aliases."""
    found = Experiment.model_json_schema(ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = found.pop("$defs")
    definitions["Experiment"] = found
    for name, definition in definitions.items():
        definition.pop("title", None)
        properties = definition.get("properties", {})
        actions = properties["action"]["enum"] if name in _ACTIONS else None
        for key, of in list(properties.items()):
            of.pop("title", None)
            of.pop(EFFECTS, None)
            properties[key] = _lenient(of)
        if actions is not None:
            definitions[name] = {"anyOf": [{"enum": [*actions, False]}, definition]}
    hyper = definitions["Hyperparameters"]["properties"]
    del hyper["trl"]
    hyper |= {name: _of_trl(name, field) for name, field in trl_fields().items() if name not in hyper and name not in REFUSED}
    hyper |= {name: {"description": "changes nothing here"} for name in NAMES if name not in hyper}
    of_experiment = found["properties"]
    of_experiment["experiment_id"]["anyOf"].append({"type": "integer"})
    definitions["Samples"]["properties"]["prompts"]["anyOf"].append({"const": False})
    samples = of_experiment["samples"]
    of_experiment["samples"] = {"description": samples.pop("description"), "anyOf": [samples, {"enum": [False, "off"]}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Experiments of dpo-launcher",
        "type": "object",
        "additionalProperties": {
            "if": {"type": "object", "required": ["experiment_id"]},
            "then": {"$ref": "#/$defs/Experiment"},
        },
        "$defs": definitions,
    }


def _lenient(of: dict[str, Any]) -> dict[str, Any]:
    """A property as files may write it: a single value for a list, a variable such as ${NAME} for a number, or nothing."""
    if "$ref" in of:
        return of  # with anyOf, editors would no longer mark a mistake at its key
    described: dict[str, Any] = {key: of.pop(key) for key in ("description", "default", "examples") if key in of}
    choices = [*of["anyOf"]] if set(of) == {"anyOf"} else [of]
    if any(one.get("type") == "array" for one in choices):
        choices += [one["items"] for one in choices if one.get("type") == "array"]
    return {**described, "anyOf": [*choices, {"type": "null"}, {"type": "string", "pattern": _TEXT}]}


def _of_trl(name: str, field: dict[str, Any]) -> dict[str, Any]:
    types = [_TYPES[one] for one in field["types"] if one in _TYPES]
    why = FIELDS[name].why if name in FIELDS else ""
    of_own: dict[str, Any] = {"description": f"TRL's own{': ' if why else ''}{why}", "default": field["default"]}
    typed: dict[str, Any] = {"type": [*types, "null"]}
    return {**of_own, **typed} if types and len(types) == len({*field["types"]} - {"null"}) else of_own
