"""Writes ``launcher/experiment/other_tools/trl_fields.json``: the fields of the installed ``trl.DPOConfig``.

The launcher has no TRL.

python -m trainer.inputs.trl_fields            rewrite the file
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "launcher" / "experiment" / "other_tools" / "trl_fields.json"
_NAMES = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict", type(None): "null"}


def installed_fields() -> dict[str, Any]:
    """``{"trl": version, "fields": {name: {"types": [...], "default": ..., "choices": [...]}}}`` in the declared order;
    ``choices`` only where a text is one of a few.
    """
    import trl

    hints = typing.get_type_hints(trl.DPOConfig)
    fields = {
        field.name: {
            "types": sorted(_type_names(hints[field.name])),
            "default": _default(field),
            **({"choices": choices} if (choices := _choices(hints[field.name]) or _said(field)) else {}),
        }
        for field in dataclasses.fields(trl.DPOConfig)
    }
    return {"trl": trl.__version__, "fields": fields}


def _type_names(hint: Any) -> set[str]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_type_names(part) for part in typing.get_args(hint)))
    if origin is typing.Literal:
        return {_NAMES[type(value)] for value in typing.get_args(hint)}
    kind = origin or hint
    if kind in _NAMES:
        return {_NAMES[kind]}
    return {"str"} if isinstance(kind, type) and issubclass(kind, enum.Enum) else {"dict"}


def _choices(hint: Any) -> list[str]:
    """The texts of an enumeration, also where a plain text is accepted beside it: transformers looks it up there."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [str(member.value) for member in hint]
    if typing.get_origin(hint) is typing.Literal:
        return [value for value in typing.get_args(hint) if isinstance(value, str)]
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [choice for part in typing.get_args(hint) if is_union for choice in _choices(part)]


def _said(field: dataclasses.Field[Any]) -> list[str]:
    """The texts that the field itself lists, for its command line."""
    return [str(choice) for choice in field.metadata.get("choices") or ()]


def _default(field: dataclasses.Field[Any]) -> Any:
    value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return value.value if isinstance(value, enum.Enum) else value


def text() -> str:
    """The file's whole content."""
    return json.dumps(installed_fields(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
