"""Prompt: the row of the prompt table that an experiment names, and its user template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from ..errors import Mistake, nearest
from ..experiment.schema import Experiment
from ..runs.run_dir import RunDir
from .checks.cells import text_mistakes
from .columns.mapping import Columns
from .tables.table import Table
from .text.template import Template, filled, is_alone, names_of, paragraphs, parsed, required, written

PROMPT_COLUMNS = ("name", "system", "user")

LONE_PLACEHOLDER = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")


@dataclass(frozen=True)
class Prompt:
    """``user``: the template of the user message; ``place``: that of ``system``.

    ``has_own``: rows have their own system messages, which replace ``system``; known once rows were read.
    """

    system: str | None
    user: Template
    place: str | None = None
    has_own: bool = False

    def fill(self, values: Mapping[str, str]) -> str:
        """The user message; ``values``: placeholder -> text, which may be empty of an optional one."""
        return filled(self.user, values)

    def message(self, text: str) -> str:
        """``text`` in place of the only placeholder that is not optional; if there are several, it is the whole message."""
        names = required(self.user) or names_of(self.user)
        return self.fill({**dict.fromkeys(names_of(self.user), ""), names[0]: text}) if len(names) == 1 else text

    def optional(self, mapping: Columns) -> frozenset[str]:
        """The input columns whose cells may be empty."""
        needed = required(self.user)
        return frozenset(column for name, column in mapping.inputs.items() if name not in needed)


ALONE: Final = Prompt(None, ("", "prompt", ""))  # the message as it is typed


def kept_prompt(run: RunDir) -> Prompt | None:
    """The system message and user template of ``run``; None for a run that is older than the file with them."""
    try:
        found = json.loads(run.prompt.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    user = tuple(part if isinstance(part, str) else tuple(part) for part in found["user"])
    return Prompt(found["system"], user, found["place"], bool(found.get("has_own")))


def choose_prompt(experiment: Experiment, mapping: Columns, table: Table | None, mistakes: list[Mistake]) -> Prompt | None:
    """The chosen prompt row, or None with its mistakes added to ``mistakes``; without a table the inputs are the message."""
    if table is None:
        return Prompt(None, paragraphs(list(mapping.inputs)))
    missing = [
        Mistake(table.place(table.line), f"the prompt table has no column {c!r}", hint=nearest(c, table.columns))
        for c in PROMPT_COLUMNS
        if c not in table.columns
    ]
    if missing:
        mistakes += missing
        return None
    mistakes += _name_mistakes(table)
    row = next((row for row in table.rows if row.cells["name"] == experiment.prompt_name), None)
    if row is None:
        names = [row.cells["name"] for row in table.rows]
        mistakes.append(
            Mistake(
                table.name,
                f"no prompt named {experiment.prompt_name!r}, which prompt_name sets",
                found=", ".join(_nearest_first(experiment.prompt_name, names)),
                hint=nearest(experiment.prompt_name, names),
            )
        )
        return None
    system, user = (table.place(row.line, column) for column in ("system", "user"))
    mistakes += _system_mistakes(system, row.cells["system"], mapping)
    mistakes += [m for c in ("system", "user") for m in text_mistakes(table, row, c, experiment.data_checks)]
    template = _template(user, row.cells["user"], mapping, mistakes)
    if mapping.asks_in_messages:
        mistakes += _text_around(user, template)
    return Prompt(row.cells["system"] or None, template, system)


def _text_around(where: str, template: Template) -> list[Mistake]:
    """A list of messages is a complete prompt: no text can be put around it."""
    if is_alone(template, with_blanks=True):
        return []
    what = "the user template puts text around the prompt, which is a list of messages"
    name = next(iter(names_of(template)), "prompt")
    hint = f"make user exactly {{{name}}}; put instructions into system, or into the messages"
    return [Mistake(where, what, f"the placeholder {{{name}}} alone", repr(written(template)), hint)]


def _name_mistakes(table: Table) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for row in table.rows:
        name, where = row.cells["name"], table.place(row.line, "name")
        if not name.strip():
            yield Mistake(where, "the prompt has no name", expected="a name in column 'name'")
        elif name in first:
            also = f"at {table.place(first[name], 'name')}" if table.is_worksheet else f"on line {first[name]}"
            yield Mistake(where, f"duplicate prompt name {name!r}", found=f"first used {also}")
        first.setdefault(name, row.line)


def _nearest_first(name: str, names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda other: -SequenceMatcher(None, name, other).ratio())


def _system_mistakes(where: str, system: str, mapping: Columns) -> list[Mistake]:
    # The system message is not a template: it may contain JSON. Only a placeholder that input_columns maps is refused.
    return [
        Mistake(
            where,
            f"system contains the placeholder {{{name}}}",
            expected="placeholders in user only",
            hint="for a system message of each row name its column in dpo_column_mapping_config: system",
        )
        for name in dict.fromkeys(LONE_PLACEHOLDER.findall(system))
        if name in mapping.inputs
    ]


def _template(where: str, text: str, mapping: Columns, mistakes: list[Mistake]) -> Template:
    """``text`` as a template; mistakes are added to ``mistakes``."""
    template, wrong = parsed(text)
    mistakes += [Mistake(where, f"{one.what} in user", found=one.around, hint=one.hint) for one in wrong]
    used = names_of(template)
    for name in used:
        if name not in mapping.inputs:
            add = f": add `{name}: <column>` to input_columns" if name.isidentifier() else " in input_columns"
            what = f"{{{name}}} in the user template has no column{add} (it has: {', '.join(mapping.inputs)})"
            mistakes.append(Mistake(where, what, hint=nearest(name, mapping.inputs)))
    mistakes += [
        Mistake(where, f"the user template does not use {{{name}}}, which input_columns maps to {column!r}")
        for name, column in mapping.inputs.items()
        if name not in used
    ]
    return template
