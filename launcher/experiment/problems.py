"""Turns pydantic's errors into messages: which key is wrong, what is wrong, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from ..errors import nearest
from .other_tools.neutral import accepted
from .other_tools.other_names import is_renamed, meaning
from .other_tools.other_values import meant_value
from .other_tools.trl_fields import REFUSED, trl_fields
from .schema import Experiment
from .sections.bucket_name import meant


class Problem(NamedTuple):
    """A mistake at a path of keys, ``loc``.

    ``must``: what the value must be, if that is the whole message. ``of_key``: the key itself is wrong, not its value.
    """

    loc: tuple[str | int, ...]
    what: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    of_key: bool = False
    must: str | None = None


def problems(error: ValidationError) -> list[Problem]:
    """Every mistake in ``error``, one per path."""
    found: dict[tuple[str | int, ...], Problem] = {}
    for item in error.errors(include_url=False):
        # For an unknown key the last part is what the user wrote, even if it looks like a branch of a union.
        is_key = item["type"] in ("extra_forbidden", "unknown_key")
        *way, last = item["loc"] or ("",)
        loc = (*_names(way), last) if is_key else tuple(_names(item["loc"]))
        problem = _problem(loc, item)
        earlier = found.get(loc)
        if earlier and earlier.must and problem.must and problem.must not in earlier.must.split(" or "):
            problem = earlier._replace(must=f"{earlier.must} or {problem.must}", hint=earlier.hint or problem.hint)
        found[loc] = problem
    # For a union pydantic also reports "not a list"; the mistake inside the value says more.
    inner = [p for loc, p in found.items() if not any(other[: len(loc)] == loc and other != loc for other in found)]
    return [p._replace(what=f"{_name(p.loc)} must be {p.must}") if p.must is not None else p for p in inner]


def every_problem(data: Mapping[str, Any], error: ValidationError, *, needs_data: bool = True) -> list[Problem]:
    """The mistakes of ``data`` in ``error``, and those that they hide.

    pydantic checks for contradictions between settings only if each one is valid. So invalid settings are removed and the rest
    is validated again. A contradiction that names a removed key is dropped.
    """
    found = problems(error)
    wrong = {problem.loc for problem in found}
    for _ in range(2):  # first contradictions inside a section, then across the experiment
        named = {str(loc[-1]) for loc in wrong if loc}
        try:
            Experiment.parse(without(data, wrong), needs_data=needs_data)
        except ValidationError as error_behind:
            behind = [problem for problem in problems(error_behind) if problem.loc not in wrong]
            found += [problem for problem in behind if named.isdisjoint(re.findall(r"\w+", problem.what))]
            wrong |= {problem.loc for problem in behind}
    return found


def without(data: Mapping[str, Any], wrong: Iterable[tuple[str | int, ...]]) -> dict[str, Any]:
    """``data`` without the keys at the paths ``wrong``. A mistake inside a list removes the whole list."""
    kept = dict(data)
    heads = {loc[0]: [w[1:] for w in wrong if w[:1] == loc[:1]] for loc in wrong if loc}
    for head, rests in heads.items():
        inner = kept.get(str(head))
        if isinstance(inner, Mapping) and all(rest and isinstance(rest[0], str) for rest in rests):
            kept[str(head)] = without(inner, rests)
        else:
            kept.pop(str(head), None)
    return kept


def _names(loc: Sequence[str | int]) -> list[str | int]:
    """The parts of pydantic's path that are keys or indices; it also contains branches of unions and our section ``trl``."""
    branches = {"str", "bool", "int", "float", "none", "trl", "constrained-str", "constrained-int"}
    return [p for p in loc if not isinstance(p, str) or (p not in branches and "[" not in p and "(" not in p)]


def _problem(loc: tuple[str | int, ...], item: Any) -> Problem:
    kind, ctx = item["type"], item.get("ctx", {})
    if kind == "too_short" and isinstance(item["input"], str):
        kind = "string_too_short"  # pydantic reports text from our own validators as if it were a list
    name, found = _name(loc), _shown(item["input"])
    if kind in ("extra_forbidden", "unknown_key"):
        neutral = accepted(str(loc[-1]))
        if neutral is not None and not is_renamed(str(loc[-1])):
            return Problem(loc, f"{name} must be {neutral}", found=found, hint=_meaning(loc))
        near = ctx.get("nearest") if kind == "unknown_key" else nearest(str(loc[-1]), _keys_at(loc[:-1]))
        return Problem(loc, f"unknown key {str(loc[-1])!r}", hint=_elsewhere(loc) or _meaning(loc) or near, of_key=True)
    if kind == "missing":
        return Problem(loc, f"{name} is missing", _sentence(loc))
    if kind == "refused":
        return Problem(loc, item["msg"], of_key=True)
    must = _requirement(kind, item["msg"], ctx)
    if must is not None:
        hint = _value_hint(loc, item["input"]) or (ctx["nearest"] if kind == "trl_choice" else _choice_hint(item, ctx))
        return Problem(loc, f"{name} must be {must}", found=found, hint=hint, must=must)
    return Problem(loc, name + ("" if item["msg"].startswith(":") else " ") + item["msg"])


def _name(loc: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in loc) or "the experiment"


def _requirement(kind: str, message: str, ctx: Mapping[str, Any]) -> str | None:
    """What the value must be; None for other kinds of mistakes."""
    if kind in ("number_type", "mapping_type", "trl_type", "trl_choice", "day_type", "bucket_type"):
        return message
    if kind == "literal_error":
        choices = re.findall(r"'([^']+)'", ctx["expected"])
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    expected = _EXPECTED.get(kind)
    if expected is None:
        return None
    return _PATTERNS.get(ctx.get("pattern", "")) or expected.format(**{name: _plain(value) for name, value in ctx.items()})


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_too_short": "non-empty text",
    "string_pattern_mismatch": "text that matches {pattern}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "tuple_type": "a list",
    "too_short": "a non-empty list",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


# The schema's patterns, in words.
_PATTERNS = {
    r"^[A-Za-z0-9._-]+$": "a name of letters, digits, '.', '_' and '-'",
    r"^[0-9]+(\.[0-9]+)?([KMGT]i?)?B?$": "a size such as 64Gi or 500M",
    r"^([0-9]+[dhms])+$": "a time such as 36h or 1d12h",
    r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9][A-Za-z0-9._-]*$": "a resource of nodes, such as nvidia.com/gpu",
    r"^https?://": "an address that begins with https:// or http://",
}


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _choice_hint(item: Any, ctx: Mapping[str, Any]) -> str | None:
    if item["type"] != "literal_error" or not isinstance(item["input"], str):
        return None
    return nearest(item["input"], re.findall(r"'([^']+)'", ctx["expected"]))


def _value_hint(loc: tuple[str | int, ...], value: object) -> str | None:
    """What to write for another tool's value."""
    key = next((str(part) for part in reversed(loc) if isinstance(part, str)), "")
    if not isinstance(value, str):
        return None
    return meant(value) if key == "bucket_name" else meant_value(key, value)


def _meaning(loc: tuple[str | int, ...]) -> str | None:
    """What to write for another tool's key."""
    name = str(loc[-1])
    section = ".".join(str(part) for part in loc[:-1])
    above = "" if section == "hyperparameters" else "hyperparameters."
    own = meaning(section, name) or REFUSED.get(name)
    return own and re.sub(r"^use (\w+)(?= \(this project's name)", rf"use {above}\1", own)


def _section_at(loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The section class at a path of keys; None for plain values."""
    section: type[BaseModel] | None = Experiment
    for part in loc:
        field = section.model_fields.get(str(part)) if section is not None else None
        section = None if field is None else next((t for t in _types(field.annotation) if issubclass(t, BaseModel)), None)
    return section


def _types(annotation: Any) -> Iterable[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        if isinstance(part, type):
            yield part


def _keys_at(loc: tuple[str | int, ...]) -> list[str]:
    section = _section_at(loc)
    return [] if section is None else [name for name in section.model_fields if name != "trl"]


def _elsewhere(loc: tuple[str | int, ...]) -> str | None:
    """A hint if the key belongs to another section."""
    name, here = str(loc[-1]), ".".join(str(part) for part in loc[:-1])
    homes = [
        section for section in _sections() if section != here and name in _keys_at(tuple(section.split(".")) * bool(section))
    ]
    if not homes and here != "hyperparameters" and name in trl_fields() and name not in REFUSED:
        homes = ["hyperparameters"]
    if not homes:
        return None
    return "move it to the top level of the experiment" if homes[0] == "" else f"move it to {homes[0]}"


def _sections(above: tuple[str, ...] = ()) -> list[str]:
    """The paths of all sections, the experiment's ("") first, without health rules, which all have the same keys."""
    below = [(*above, key) for key in _keys_at(above) if _section_at((*above, key)) is not None]
    return [".".join(above), *(section for path in below if path[0] != "health" for section in _sections(path))]


def _sentence(loc: tuple[str | int, ...]) -> str | None:
    section = _section_at(loc[:-1])
    field = section.model_fields.get(str(loc[-1])) if section is not None else None
    return None if field is None else field.description
