"""Writes the reference pages (keys, TRL's fields, commands) from the schema and the command line.

``python -m docs.generate.reference``
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Final

import click

from launcher.cli import launcher
from launcher.experiment import schema
from launcher.experiment.data_checks import DataChecks
from launcher.experiment.explained import TRL, default_of, trl_keys, type_of
from launcher.experiment.hyperparameters import Hyperparameters
from launcher.experiment.section import Section
from launcher.experiment.trl_fields import REFUSED, trl_fields
from launcher.experiment.watched import Health

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
_WIDTH: Final = 100  # columns of the commands' help


def keys() -> str:
    """Every key of an experiment: a table a section."""
    return "\n\n".join(f"### {title}\n\n{_table(_rows(of))}" for title, of in _SECTIONS)


def trl() -> str:
    """TRL's fields: what each does here, those that are accepted before those that are refused."""
    rows = [(f"`{key.name}`", key.type, _ticked(key.default), key.meaning.removeprefix(TRL)) for key in trl_keys()]
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
    write_part(DOCS / "reference" / "experiment-file.md", "keys", keys())
    write_part(DOCS / "reference" / "trl-fields.md", "fields", trl())
    write_part(DOCS / "reference" / "commands.md", "commands", commands())


# --- Keys


def _rows(of: type[Section]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("key", "type", "default", "meaning")]
    for name, field in of.model_fields.items():
        if name == "trl":
            rows.append(("*other keys*", type_of(field), "", field.description or ""))
        else:
            default = "**required**" if field.is_required() else _ticked(default_of(field))
            rows.append((f"`{name}`", type_of(field), default, field.description or ""))
    return rows


def _ticked(text: str) -> str:
    return f"`{text}`" if text else ""


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
