"""The tables of keys, and their page: of each its sentence, type, default, an example, and what it does on each backend."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Final

from launcher.experiment.explain.explained import Key, keys
from launcher.experiment.other_tools.trl_fields import trl_fields
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.sections.on import NO_EFFECT
from launcher.experiment.sections.section import Section

from .tables import anchor, plain, table, ticked

PAGE: Final = "keys.md"  # beside the experiment file's page
_WHERE: Final = {"host": "Host", "docker": "Docker", "kubernetes": "Kubernetes", "fast": "Fast path", "plain": "Plain path"}
_RULES: Final = ("data_checks", "health")  # sections whose keys are rules of one type
_HYPER: Final = "hyperparameters"
_GENERAL: Final = "column_mapping_config"  # has the same keys as dpo_column_mapping_config


def overview() -> str:
    """A table a section, whose keys lead to their entries."""
    top = keys()
    parts = [_table("An experiment", top)]
    for key in top:
        parts += _tables(key)
    return "\n\n".join(parts)


def _tables(key: Key) -> Iterator[str]:
    if key.below and key.path != _GENERAL:
        yield _table(key.path, key.below)
        if key.name not in _RULES:
            for one in key.below:
                yield from _tables(one)


def _table(title: str, those: tuple[Key, ...]) -> str:
    rows = [("key", "type", "default", "meaning")]
    for key in those:
        default = "**required**" if key.is_required else ticked(key.default)
        rows.append((f"[`{key.name}`]({_link(key)})", key.type, default, plain(key.meaning)))
    if title == _HYPER:
        rows.append(("*other keys*", "", "", "every other field of TRL's DPOConfig: [TRL's fields](trl-fields.md)"))
    return f"### {title}\n\n{table(rows)}"


def paths(of: type[Section] = Experiment, above: str = "") -> set[str]:
    """Every key, with the sections that it lies in: ``launch.kubernetes.queue``."""
    found = set()
    for name, field in of.model_fields.items():
        found.add(f"{above}{name}")
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Section):
                found |= paths(part, f"{above}{name}.")
    return found | {f"{above}{name}" for name in trl_fields() if of is Hyperparameters}


def details() -> str:
    """A heading for each key, below a heading for each section."""
    top = keys()
    parts = [_section("The experiment", tuple(key for key in top if not key.below))]
    for key in top:
        parts += _of_section(key) if key.below else []
    return "\n\n".join(parts)


def _link(key: Key) -> str:
    """The entry of a key; a rule is in its section's table."""
    above = key.path.partition(".")[0]
    return f"{PAGE}#{anchor(above if above in _RULES else key.path)}"


def _of_section(key: Key) -> Iterator[str]:
    if key.name in _RULES:
        yield f"## {key.path}\n\n{plain(key.meaning)}\n\n{_rules(key)}"
        return
    if key.path == _GENERAL:
        yield f"## {key.path}\n\n{plain(key.meaning)} Its keys are those of `dpo_column_mapping_config`."
        return
    said = "\n".join(_facts(key))
    yield _section(
        key.path, tuple(one for one in key.below if not one.below), plain(key.meaning) + (f"\n\n{said}" if said else "")
    )
    for one in key.below:
        if one.below:
            yield from _of_section(one)


def _section(title: str, those: tuple[Key, ...], about: str = "") -> str:
    head = [f"## {title}", *([about] if about else [])]
    return "\n\n".join((*head, *(_entry(key) for key in those)))


def _entry(key: Key) -> str:
    facts = [f"- Type: {key.type}", f"- Default: {_default(key)}", f"- Example: {ticked(key.example)}", *_facts(key)]
    return f"### `{key.path}`\n\n{plain(key.meaning)}\n\n" + "\n".join(facts)


def _default(key: Key) -> str:
    return "none, it is required" if key.is_required else ticked(key.default) or "not set"


def _facts(key: Key) -> Iterator[str]:
    idle = [_WHERE[place] for place, text in key.effects.items() if text == NO_EFFECT]
    if idle:
        yield f"- No effect on: {', '.join(idle)}"
    yield from (f"- {_WHERE[place]}: {text}" for place, text in key.effects.items() if text != NO_EFFECT)
    if key.idle_with:
        yield f"- No effect with: {', '.join(f'`{setting}`' for setting in key.idle_with)}"


def _rules(section: Key) -> str:
    rows = [("key", "default", "meaning", "example")]
    rows += [(f"`{key.name}`", ticked(key.default), plain(key.meaning), ticked(key.example)) for key in section.below]
    first = section.below[0]
    forms = f"Type of each: {first.type}. Its keys:\n\n" + "\n".join(
        f"- `{one.name}`: {one.type}; {one.meaning}; example {ticked(one.example)}" for one in first.below
    )
    return f"{table(rows)}\n\n{forms}"
