"""Checks a field of TRL's ``DPOConfig`` in a file: its name and its value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pydantic_core import PydanticCustomError

from ...errors import nearest
from .trl_fields import FIELDS, REFUSED, trl_fields
from .trl_limits import beyond


def trl_error(key: str, value: object, own: Iterable[str]) -> PydanticCustomError | None:
    """The error of ``key: value`` as a field of ``DPOConfig``, or None. ``own``: our keys, to suggest the nearest name."""
    if key in REFUSED:
        return PydanticCustomError("refused", "{sentence}", {"sentence": REFUSED[key]})
    if key not in trl_fields():
        known = [*own, *(name for name in trl_fields() if name not in REFUSED)]
        return PydanticCustomError("unknown_key", "unknown key", {"nearest": nearest(str(key), known)})
    types = trl_fields()[key]["types"]
    if not _fits(value, types):
        return PydanticCustomError("trl_type", "{expected}", {"expected": " or ".join(_WORDS[t] for t in types)})
    if (expected := beyond(key, value)) is not None:
        return PydanticCustomError("trl_type", "{expected}", {"expected": expected})
    return choice_error(key, value)


def choice_error(key: str, value: object) -> PydanticCustomError | None:
    """The error if transformers does not accept ``value`` for ``key``, else None."""
    field = FIELDS.get(key)
    if field is not None and field.refused and value in field.refused:
        return PydanticCustomError("refused", "{sentence}", {"sentence": f"{key}: {value} {field.refused[str(value)]}"})
    choices = (field.choices if field is not None else ()) or trl_fields()[key].get("choices", [])
    if not choices or not isinstance(value, str) or value in choices:
        return None
    some = sorted(choices, key=lambda choice: choice != trl_fields()[key]["default"])[:_SHOWN]
    expected = f"one of {', '.join(some)}{f' … ({len(choices)} in all)' if len(choices) > _SHOWN else ''}"
    return PydanticCustomError("trl_choice", "{expected}", {"expected": expected, "nearest": nearest(value, choices)})


_SHOWN = 12  # choices per message


_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "null": "null",
}


def _fits(value: object, types: Iterable[str]) -> bool:
    kinds: dict[str, bool] = {
        "null": value is None,
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        "str": isinstance(value, str),
        "list": isinstance(value, list | tuple),
        "dict": isinstance(value, Mapping),
    }
    return any(kinds[kind] for kind in types)
