"""Writes the reference pages (keys, TRL's fields, commands) from the schema and the command line.

``python -m docs.generate.reference``
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import annotated_types
import click
from pydantic.fields import FieldInfo

from launcher.cli import launcher
from launcher.experiment import schema
from launcher.experiment.data_checks import Check, DataChecks
from launcher.experiment.hyperparameters import Hyperparameters
from launcher.experiment.section import Section
from launcher.experiment.trl_fields import FIELDS, REFUSED, Fate, Field, trl_fields
from launcher.experiment.watched import Health, Rule

from .pages import DOCS, write_part

_SECTIONS: Final = (
    ("An experiment", schema.Experiment),
    ("hyperparameters", Hyperparameters),
    ("dpo_column_mapping_config, column_mapping_config", schema.ColumnMapping),
    ("storage_config", schema.StorageConfig),
    ("launch", schema.Launch),
    ("launch.kubernetes", schema.Kubernetes),
    ("data_checks", DataChecks),
    ("health", Health),
    ("samples", schema.Samples),
)
_WORDS: Final[Mapping[Any, str]] = {bool: "true, false", int: "integer", float: "number", str: "text", Any: "any"}
_WIDTH: Final = 100  # columns of the commands' help


def keys() -> str:
    """Every key of an experiment: a table a section."""
    return "\n\n".join(f"### {title}\n\n{_table(_rows(of))}" for title, of in _SECTIONS)


def trl() -> str:
    """TRL's fields: what each does here, those that are accepted before those that are refused."""
    rows = [
        (f"`{name}`", _trl_type(field), _code(field["default"]), _fate(FIELDS[name]))
        for name, field in sorted(trl_fields().items())
        if name not in REFUSED and name not in Hyperparameters.model_fields
    ]
    ours = ", ".join(f"`{name}`" for name in sorted(trl_fields().keys() & Hyperparameters.model_fields.keys()))
    other = [(f"`{name}`", instead) for name, instead in sorted(REFUSED.items())]
    return "\n\n".join(
        (
            "## What each does here\n\n" + _table([("key", "type", "default", "here"), *rows]),
            f"Honoured on both paths, with defaults and limits of their own: {ours}. "
            "The losses aot, aot_unpaired and sft look at a whole batch and take the plain path.",
            "## Decided by this project\n\nThese names are refused. The error names the replacement.\n\n"
            + _table([("TRL's name", "instead"), *other]),
        )
    )


def _fate(field: Field) -> str:
    """A field's fate, its reason, and the values that it may not have."""
    if field.fate is Fate.PLAIN:
        rest = f", except at {' or '.join(map(str, field.harmless))}" if field.harmless else ""
        return f"{field.fate.value}{rest}: {field.why}"
    refused = f"; refused: {', '.join(f'`{value}`' for value in field.refused)}" if field.refused else ""
    return f"{field.fate.value}{': ' if field.why else ''}{field.why}{refused}"


def commands() -> str:
    """The help of every command."""
    return "\n\n".join(_help(path, command) for path, command in _commands(("launcher",), launcher))


def keys_of(of: type[Section], above: str = "") -> set[str]:
    """Every key, with the sections that it lies in: ``launch.kubernetes.queue``."""
    found = set()
    for name, field in of.model_fields.items():
        found.add(f"{above}{name}")
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Section):
                found |= keys_of(part, f"{above}{name}.")
    return found | {f"{above}{name}" for name in trl_fields() if of is Hyperparameters}


def main() -> None:
    write_part(DOCS / "experiment-file.md", "keys", keys())
    write_part(DOCS / "trl-fields.md", "fields", trl())
    write_part(DOCS / "commands.md", "commands", commands())


# --- Keys


def _rows(of: type[Section]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("key", "type", "default", "meaning")]
    for name, field in of.model_fields.items():
        default = _default(field) if name != "trl" else ""
        shown = "*other keys*" if name == "trl" else f"`{name}`"
        rows.append((shown, _type_of(field), default, field.description or ""))
    return rows


def _type_of(field: FieldInfo) -> str:
    limits = [_limit(one) for one in field.metadata]
    known = _known(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
    return ", ".join([known or _type(field.annotation), *(limit for limit in limits if limit and not known)])


def _known(annotation: Any) -> str | None:
    """A type of ``section`` that has a word of its own, whatever it is made of."""
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
        return "`warn`, `stop`, `off`, or a mapping of `action` and `threshold`"
    if isinstance(annotation, type) and issubclass(annotation, Check):
        return "`error`, `warn`, `off`, or a mapping of `action` and `threshold`"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "mapping"
    return _WORDS[annotation]


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


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Rule | Check):
        return _code(value.action)
    return "" if isinstance(value, Section) else _code(value)


def _code(value: object) -> str:
    """A value as a person writes it in YAML; nothing where nothing is set."""
    if value is None or value == "" or value == () or (isinstance(value, Mapping) and not value):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`{value[0]}`" if len(value) == 1 else f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _trl_type(field: Mapping[str, Any]) -> str:
    words = {"bool": "true, false", "int": "integer", "float": "number", "str": "text", "list": "list", "dict": "mapping"}
    return ", ".join(words[name] for name in field["types"] if name != "null")


def _table(rows: list[tuple[str, ...]]) -> str:
    cells = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in (cells[0], " | ".join(["---"] * len(rows[0])), *cells[1:]))


# --- Commands


def _commands(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            yield from _commands((*path, name), below)


def _help(path: tuple[str, ...], command: click.Command) -> str:
    context = None
    for name in path[:-1]:
        context = click.Context(launcher if context is None else command, info_name=name, parent=context)
    own = click.Context(command, info_name=path[-1], parent=context, terminal_width=_WIDTH, max_content_width=_WIDTH)
    own.help_option_names = ["-h", "--help"]
    text = "\n".join(line.rstrip() for line in command.get_help(own).splitlines())
    return f"## {' '.join(path)}\n\n```text\n{text}\n```"


if __name__ == "__main__":
    main()
