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

PROMPT_COLUMNS = ("name", "system", "user")

_BRACES = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]")
LONE_PLACEHOLDER = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")


@dataclass(frozen=True)
class Prompt:
    """``user`` is a list of literal text (even places) and placeholder names (odd places); ``place``: that of ``system``.

    ``has_own``: rows have their own system messages, which replace ``system``; known once rows were read.
    """

    system: str | None
    user: tuple[str, ...]
    place: str | None = None
    has_own: bool = False

    def fill(self, values: Mapping[str, str]) -> str:
        # Joined, not formatted: braces in a cell are text.
        return "".join(values[part] if n % 2 else part for n, part in enumerate(self.user))

    def message(self, text: str) -> str:
        """``text`` in place of the only placeholder; if there are several, ``text`` is the whole user message."""
        names = set(self.user[1::2])
        return self.fill(dict.fromkeys(names, text)) if len(names) == 1 else text


ALONE: Final = Prompt(None, ("", "prompt", ""))  # the message as it is typed


def placeholders(user: str) -> list[str]:
    """The placeholders of a user template, once each."""
    return list(dict.fromkeys(found["name"] for found in _BRACES.finditer(user) if found["name"] is not None))


def kept_prompt(run: RunDir) -> Prompt | None:
    """The system message and user template of ``run``; None for a run that is older than the file with them."""
    try:
        found = json.loads(run.prompt.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Prompt(found["system"], tuple(found["user"]), found["place"], bool(found.get("has_own")))


def choose_prompt(experiment: Experiment, mapping: Columns, table: Table | None, mistakes: list[Mistake]) -> Prompt | None:
    """The chosen prompt row, or None with its mistakes added to ``mistakes``; without a table the one input is the message."""
    if table is None:
        return Prompt(None, ("", next(iter(mapping.inputs)), ""))
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


def _text_around(where: str, template: tuple[str, ...]) -> list[Mistake]:
    """A list of messages is a complete prompt: no text can be put around it."""
    if len(template) == 3 and not template[0].strip() and not template[2].strip():
        return []
    what = "the user template puts text around the prompt, which is a list of messages"
    names = list(dict.fromkeys(template[1::2])) or ["prompt"]
    hint = f"make user exactly {{{names[0]}}}; put instructions into system, or into the messages"
    return [Mistake(where, what, f"the placeholder {{{names[0]}}} alone", repr(_unsplit(template)), hint)]


def _unsplit(template: tuple[str, ...]) -> str:
    return "".join(f"{{{part}}}" if n % 2 else part for n, part in enumerate(template))


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


def _template(where: str, text: str, mapping: Columns, mistakes: list[Mistake]) -> tuple[str, ...]:
    """``text`` split at its placeholders, with doubled braces made single; mistakes are added to ``mistakes``."""
    parts, end = [""], 0
    for found in _BRACES.finditer(text):
        parts[-1] += text[end : found.start()]
        end = found.end()
        if found["name"] is not None:
            parts += [found["name"], ""]
        elif len(found[0]) == 2:
            parts[-1] += found[0][0]
        else:
            hint = f"write {found[0] * 2!r} for a literal {found[0]!r}"
            mistakes.append(Mistake(where, f"unmatched {found[0]!r} in user", found=_around(text, found.start()), hint=hint))
    parts[-1] += text[end:]
    used = dict.fromkeys(parts[1::2])
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
    return tuple(parts)


def _around(text: str, at: int) -> str:
    return json.dumps(text[max(0, at - 20) : at + 21], ensure_ascii=False)
