"""Proposed: which columns of a table are prompt and answers, by their names and cells, as the mapping that reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...experiment.text.flow import flow
from ..tables.table import Table
from .answers import KINDS, NO_PAIR, SENTENCE, UNKNOWN, Answers, answers_of, listed
from .known_names import (
    PARTS,
    PROMPTS,
    SYSTEMS,
    TOOLS,
    is_named,
    tokens,
)
from .opened import opened
from .seen import Seen, ends_with_answer


@dataclass(frozen=True)
class Proposal:
    """``mapping``: for dpo_column_mapping_config, with ``UNKNOWN`` for a column that is not known; ``roles``: what was taken for
    what, in words. ``missing``: why it is not whole. ``is_sft``: there is one answer to a prompt. ``instead``: what to do where
    no mapping helps.
    """

    mapping: Mapping[str, Any]
    roles: Mapping[str, str]
    missing: str | None = None
    is_sft: bool = False
    instead: str | None = None

    @property
    def text(self) -> str:
        """The setting on one line."""
        return f"dpo_column_mapping_config: {flow(dict(self.mapping))}"


def proposed(table: Table) -> Proposal:
    """What ``table`` is taken for: better and worse answers, compared ones, rated ones, or one answer to each prompt."""
    table = opened(table)
    columns = [Seen.of(name, table.rows) for name in table.columns]
    found = answers_of(table, columns, _prompt(columns, begins=False))
    taken = [] if found is None else found.columns
    rest = [column for column in columns if column.name not in taken]
    prompt = _prompt(rest, begins=found is not None and found.begins(columns))
    rest = [column for column in rest if column.name != prompt]
    system = next((column.name for column in rest if column.is_text and is_named(column.name, SYSTEMS)), None)
    return _proposal(columns, found, prompt, system)


def _prompt(columns: Sequence[Seen], *, begins: bool) -> str | None:
    """The column of the prompts, None if the answers are conversations that begin with them."""
    texts = [column for column in columns if column.is_text]
    for wanted in PROMPTS:
        found = next((column for column in texts if is_named(column.name, (wanted,))), None)
        if found is not None and not (found.is_messages and ends_with_answer(found.first)):
            return found.name
    if begins:
        return None
    others = [column.name for column in texts if len(set(column.cells)) > KINDS or column.length > SENTENCE]
    return others[0] if len(others) == 1 else None


def _proposal(columns: Sequence[Seen], found: Answers | None, prompt: str | None, system: str | None) -> Proposal:
    lacks_prompt = prompt is None and not (found is not None and found.begins(columns))
    taken = {prompt, system, *(() if found is None else found.columns), TOOLS}
    rest = [column for column in columns if column.name not in taken]
    parts = [] if found is not None and found.begins(columns) else _parts(columns, prompt, rest)
    inputs = {"input_columns": _inputs(prompt, parts)} if prompt is not None or lacks_prompt else {}
    answers = {"chosen": UNKNOWN, "rejected": UNKNOWN} if found is None else found.mapping
    mapping = {**inputs, **({} if system is None else {"system": system}), **answers}
    unknown = ["which column is the prompt"] * lacks_prompt
    why = NO_PAIR if found is None else found.missing
    unknown += [] if why is None else [why]
    roles = {
        **({} if prompt is None else {"prompt": listed([prompt, *parts])}),
        **({} if system is None else {"system": system}),
        **({} if found is None else found.roles),
    }
    unread = [column.name for column in rest if column.name not in parts]
    roles |= {"not read": ", ".join(unread)} if unread else {}
    instead = None if found is None else found.instead
    return Proposal(mapping, roles, " and ".join(unknown) or None, bool(found and found.is_sft), instead)


def _parts(columns: Sequence[Seen], prompt: str | None, rest: Sequence[Seen]) -> list[str]:
    """Columns with a second part of the prompt, as Alpaca's ``input``."""
    if prompt is None or not is_named(prompt, ("instruction", "question", "query", "prompt")):
        return []
    if any(column.name == prompt and column.is_messages for column in columns):
        return []
    beside = [one for one in rest if one.name.rpartition(".")[0] == prompt.rpartition(".")[0]]
    return [one.name for one in beside if (one.is_text or one.is_number) and not one.is_messages and is_named(one.name, PARTS)]


def _inputs(prompt: str | None, parts: Sequence[str]) -> dict[str, str]:
    """``input_columns``: a placeholder for each column."""
    if prompt is None or not parts:
        return {"prompt": prompt or UNKNOWN}
    return {"_".join(tokens(name)) or name: name for name in (prompt, *parts)}
