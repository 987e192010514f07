"""Type, default, sentence, example and effects of every key, for ``launcher explain`` and the reference."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import annotated_types
import yaml
from pydantic.fields import FieldInfo

from ...errors import UsageError, nearest
from ..other_tools.other_names import meaning
from ..other_tools.trl_fields import FIELDS, REFUSED, Fate, Field, trl_example, trl_fields
from ..schema import Experiment
from ..sections.hyperparameters import Hyperparameters
from ..sections.rule import Rule
from ..sections.section import Section
from .effects import effects, idle_with, on_paths

_WORDS: Final[Mapping[Any, str]] = {bool: "true, false", int: "integer", float: "number", str: "text", Any: "any"}
_TRL_WORDS: Final = {"bool": "true, false", "int": "integer", "float": "number", "str": "text", "list": "list", "dict": "mapping"}
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
TRL: Final = "TRL's own field; "  # prefix of the meaning of TRL's own fields
_OTHER: Final = "trl"  # the field of Hyperparameters with TRL's own fields
_HYPER: Final = "hyperparameters"


@dataclass(frozen=True)
class Key:
    """A key. ``path``: such as ``launch.nodes``. ``default``: in YAML, empty if unset. ``below``: the keys of a section.

    ``example``: a line of YAML, empty for a section. ``effects``: backend (host, docker, kubernetes) or path (fast, plain) ->
    what the key does there, only if it differs from the meaning. ``idle_with``: settings that make the key ineffective.
    """

    path: str
    type: str
    default: str
    meaning: str
    is_required: bool = False
    below: tuple[Key, ...] = ()
    example: str = ""
    effects: Mapping[str, str] = field(default_factory=dict)
    idle_with: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def keys(of: type[Section] = Experiment, above: str = "", stated: Mapping[str, str] = _NOTHING) -> tuple[Key, ...]:
    """The keys of a section in order of definition, without TRL's own fields (see ``trl_keys``).

    ``stated``: effects of the section itself.
    """
    return tuple(_key(f"{above}{name}", field, stated) for name, field in of.model_fields.items() if name != _OTHER)


def trl_keys() -> tuple[Key, ...]:
    """TRL's own fields that ``hyperparameters`` accepts, with what each does here."""
    fields = {name: field for name, field in trl_fields().items() if name not in REFUSED}
    return tuple(
        Key(
            f"{_HYPER}.{name}",
            trl_type(field),
            code(field["default"]),
            f"{TRL}{fate(FIELDS[name])}",
            example=_line(name, trl_example(name)),
            idle_with=idle_with(name),
        )
        for name, field in sorted(fields.items())
        if name not in Hyperparameters.model_fields
    )


def explain(name: str) -> tuple[Key, ...]:
    """The keys that ``name`` means: one for a path, every key that ends with a bare name, all top-level keys for no name.

    Raises UsageError for an unknown name, with our name for another tool's key, or the nearest key.
    """
    wanted = name.strip().strip(".")
    every = (*_walked(keys()), *trl_keys())
    found = tuple(key for key in every if wanted in (key.path, key.name)) if wanted else keys()
    if any(key.path == wanted for key in found):
        return tuple(key for key in found if key.path == wanted)
    if found:
        return found
    section, _, last = wanted.rpartition(".")
    hint = REFUSED.get(last) or meaning(section, last) or nearest(wanted, [key.path for key in every])
    hint = hint or nearest(last, [key.name for key in every]) or "launcher explain lists the keys"
    raise UsageError(f"no key {name!r}\n    hint: {hint}")


def _walked(those: tuple[Key, ...]) -> Iterator[Key]:
    for key in those:
        yield key
        yield from _walked(key.below)


def _key(path: str, field: FieldInfo, stated: Mapping[str, str]) -> Key:
    above, _, name = path.rpartition(".")
    here = {**effects(field, stated), **(on_paths(name) if above == _HYPER else {})}
    section = next((part for part in (field.annotation, *typing.get_args(field.annotation)) if _is_section(part)), None)
    below = keys(section, f"{path}.", here) if section is not None else ()
    own = None if field.is_required() else field.get_default(call_default_factory=True)
    if isinstance(own, Rule):  # each rule has its own defaults
        below = tuple(replace(one, default=code(getattr(own, one.name))) for one in below)
        example = f"{name}: {'warn' if own.action == 'off' else 'off'}"  # ``off`` is false in YAML 1.1; a rule accepts it
    else:
        example = _line(name, field.examples[0]) if field.examples else ""
    return Key(
        path,
        type_of(field),
        default_of(field),
        field.description or "",
        field.is_required(),
        below,
        example,
        here,
        idle_with(name) if above == _HYPER else (),
    )


def _line(name: str, value: Any) -> str:
    """``name: value`` in YAML."""
    whole = yaml.safe_dump({name: value}, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return whole.strip()[1:-1]


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Section)


# --- Words for types and values


def type_of(field: FieldInfo) -> str:
    """A field's type and limits in words; literal words are in backticks."""
    limits = [_limit(one) for one in field.metadata]
    known = _known(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
    return ", ".join([known or _type(field.annotation), *(limit for limit in limits if limit and not known)])


def default_of(field: FieldInfo) -> str:
    """A field's default in YAML; empty if it is required, unset, or a section."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Rule):
        return code(value.action)
    return "" if isinstance(value, Section) else code(value)


def code(value: object) -> str:
    """A value in YAML; empty if unset."""
    if value is None or value == "" or value == () or (isinstance(value, Mapping) and not value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return str(value[0]) if len(value) == 1 else f"[{', '.join(map(str, value))}]"
    return str(value)


def trl_type(field: Mapping[str, Any]) -> str:
    return ", ".join(_TRL_WORDS[name] for name in field["types"] if name != "null")


def fate(field: Field) -> str:
    """What one of TRL's fields does here, why, and the values that are rejected (in backticks)."""
    if field.fate is Fate.PLAIN:
        rest = f", except at {' or '.join(map(str, field.harmless))}" if field.harmless else ""
        return f"{field.fate.value}{rest}: {field.why}"
    refused = f"; refused: {', '.join(f'`{value}`' for value in field.refused)}" if field.refused else ""
    return f"{field.fate.value}{': ' if field.why else ''}{field.why}{refused}"


def _known(annotation: Any) -> str | None:
    """The word for a type of ``section`` that has its own word."""
    return "size, as 64Gi" if "KMGT" in repr(annotation) else None


def _type(annotation: Any) -> str:
    if (known := _known(annotation)) is not None:
        return known
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = [_limit(one) for one in args[1:]]
        return " ".join([_type(args[0]), *(limit for limit in limits if limit)])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (typing.Union, types.UnionType):
        return ", ".join(dict.fromkeys(_type(arg) for arg in args if arg is not type(None)))
    if origin is tuple:
        return f"list of {_type(args[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Rule):
        return f"{_type(annotation.model_fields['action'].annotation)}, or a mapping of `action` and `threshold`"
    return "mapping" if _is_section(annotation) else _WORDS[annotation]


def _limit(metadata: Any) -> str | None:
    for kind, sign, name in (
        (annotated_types.Ge, "≥", "ge"),
        (annotated_types.Gt, ">", "gt"),
        (annotated_types.Le, "≤", "le"),
        (annotated_types.Lt, "<", "lt"),
    ):
        if isinstance(metadata, kind):
            value = getattr(metadata, name)
            return f"{sign} {value}" if value != 2**32 else None
    return None
