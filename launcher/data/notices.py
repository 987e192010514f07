"""Notices about data: what was ignored, unused columns, answers in two formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..errors import Warned
from ..experiment.schema import Experiment
from ..experiment.text.flow import flow
from ..health.data import swapped_names
from ..health.facts import Facts
from .columns.known_names import DEGREES, PARTS, SYSTEMS, WINNERS, has_word, is_named
from .columns.mapping import ANSWER, Columns, columns_of
from .columns.verdicts import sides_in
from .findings import SHOWN, places
from .prompt import LONE_PLACEHOLDER, PROMPT_COLUMNS, Prompt
from .tables.table import Table, Tables
from .text.faults import is_blank
from .text.pair import Pair

_WORDS: Final = 3  # of a label at most
_SIDES: Final = 6  # kinds of cells at most: both sides, a tie, an empty cell …
_LONG: Final = 20  # characters of a text, on average, from which on it may be a part of the prompt


def never_evaluated(experiment: Experiment) -> Iterator[str]:
    """A warning if the experiment names validation data that no evaluation will see."""
    if experiment.has_validation and experiment.hyperparameters.eval_strategy == "no":
        yield Warned("validation data are given but never evaluated; remove eval_strategy: no")


def table_notices(
    experiment: Experiment, tables: Tables, mapping: Columns, prompt: Prompt | None, groups: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """``groups``: the columns that can group the validation pairs, each with the values of all rows."""
    if experiment.is_sft and mapping.chosen == ANSWER and not experiment.names_answers:
        yield f"{tables.train.name}: the answers come from column {ANSWER!r}, as it has no column 'chosen'"
    labels = (
        ()
        if experiment.is_sft
        else [name for name, values in groups.items() if _are_labels(values) and not is_named(name, SYSTEMS)]
    )
    if tables.prompts is None and mapping.optional:
        yield f"the prompt is {_listed(list(mapping.inputs.values()))}, with an empty line between them"
    for table in (tables.train, tables.validation):
        if table is None:
            continue
        yield from table.ignored
        yield from _left_out(table, mapping)
        read = (*mapping.read, *(table.inner[name] for name in mapping.read if name in table.inner))
        verdicts = {} if mapping.rejected is None or mapping.verdict is not None else dict(_verdicts(table, mapping, read))
        for column, cells in verdicts.items():
            yield Warned(
                f"{table.name}: column {column!r} ({cells}) is not read: if it says which answer is better, rows are "
                f"mislabelled, because chosen always comes from {', '.join(columns_of(mapping.chosen))}"
                f"{_as_verdict(mapping, column)}"
            )
        yield from _unused(table, (*read, *labels, *verdicts), mapping)
    if tables.prompts is not None:
        yield from _unused(tables.prompts, PROMPT_COLUMNS)
    chosen, rejected = experiment.columns.chosen, experiment.columns.rejected
    yield from _swapped(experiment, mapping)
    if rejected is not None and isinstance(chosen, Mapping) != isinstance(rejected, Mapping):
        as_json, as_text = ("chosen", "rejected") if isinstance(chosen, Mapping) else ("rejected", "chosen")
        yield Warned(f"{as_json} is a JSON object and {as_text} is plain text: the model learns the format first")
    if isinstance(chosen, Mapping) and isinstance(rejected, Mapping) and list(chosen) != list(rejected):
        keys = f"chosen: {', '.join(chosen)}; rejected: {', '.join(rejected)}"
        yield Warned(f"the JSON answers have different keys ({keys}): the model learns the format first")
    names = dict.fromkeys(LONE_PLACEHOLDER.findall(prompt.system or "")) if prompt is not None else {}
    if names:
        shown = ", ".join(f"{{{name}}}" for name in names)
        column = next((name for name in names if name in tables.train.columns), "COLUMN")
        how = f"for a system message of each row add system: {column} to dpo_column_mapping_config"
        yield Warned(f"prompt {experiment.prompt_name!r}: system contains {shown}, which is not filled in (only user is); {how}")


def _left_out(table: Table, mapping: Columns) -> Iterator[str]:
    """How often an optional part of the prompt is left out."""
    for column in (name for name in mapping.inputs.values() if name in mapping.optional):
        count = sum(is_blank(row.cells[column]) for row in table.rows)
        yield f"{table.name}: {column!r} is empty in {count} of {len(table.rows)} rows, whose prompts leave it out"


def _swapped(experiment: Experiment, mapping: Columns) -> Iterator[str]:
    """A warning if the columns' names contradict the mapping: the health rule, before anything is loaded."""
    chosen, rejected = mapping.chosen, mapping.rejected
    if not isinstance(chosen, str) or not isinstance(rejected, str) or experiment.health.swapped_columns.action == "off":
        return
    sentence = swapped_names(Facts(chosen=chosen, rejected=rejected), 0.0)
    if sentence is not None:
        yield Warned(f"{sentence}; check chosen and rejected in dpo_column_mapping_config")


@dataclass
class _Seen:
    """What one pass over the pairs of a table has counted."""

    low: int = 0  # messages before an answer
    high: int = 0
    with_others: int = 0  # pairs that learn messages of tools or users
    own_system: int = 0
    other_prompts: list[int] = field(default_factory=list)  # lines


def chat_notices(table: Table, mapping: Columns, prompt: Prompt | None, pairs: Sequence[Pair]) -> Iterator[str]:
    """What was recognised as conversations in ``table``, which became ``pairs``, and what may surprise the reader."""
    if not mapping.has_chats:
        return
    seen = _seen(table, mapping, pairs)
    if mapping.messages or mapping.tools is not None:
        yield f"{table.name}: recognised: {'; '.join(_recognised(table, mapping, seen))}"
    of = f"of {len(pairs)} rows"
    if seen.with_others:
        yield Warned(
            f"{table.name}: {seen.with_others} {of} have tool or user messages inside answers: "
            "their tokens are learned too, as in TRL"
        )
    if mapping.system is not None or (prompt is not None and prompt.system and seen.own_system):
        replaced = ", which replaces the prompt table's" if prompt is not None and prompt.system else ""
        yield f"{table.name}: {seen.own_system} {of} have a system message of their own{replaced}"
    if seen.other_prompts:
        lines = seen.other_prompts
        first = places(table.name, [table.place(line) for line in lines[:SHOWN]], len(lines))
        yield Warned(
            f"{table.name}: in {len(lines)} {of} {_prompt_column(mapping)!r} is no message of the conversations in "
            f"{_listed(mapping.messages)}, and is not used ({first})"
        )


def _seen(table: Table, mapping: Columns, pairs: Sequence[Pair]) -> _Seen:
    seen, column = _Seen(), _prompt_column(mapping)
    for row, pair in zip(table.rows, pairs, strict=True):
        chat = pair.chat
        count = 1 if chat is None else len(chat.prompt)
        seen.low, seen.high = min(seen.low or count, count), max(seen.high, count)
        if chat is not None:
            seen.with_others += any(one["role"] != "assistant" for answer in chat.answers for one in answer)
            seen.own_system += chat.has_system
        if column is not None:
            texts = [pair.user] if chat is None else [one["content"] for one in chat.prompt]
            if row.cells[column].strip() not in {text.strip() for text in texts}:
                seen.other_prompts.append(row.line)
    return seen


def _recognised(table: Table, mapping: Columns, seen: _Seen) -> Iterator[str]:
    if mapping.messages:
        cells = (row.cells[mapping.messages[0]] for row in table.rows)
        keys = mapping.spelling.keys(next(cell for cell in cells if cell.strip()))
        whole = "whole conversations" if mapping.is_whole else "lists of messages"
        made = () if mapping.verdict is None else (mapping.verdict.better, mapping.verdict.worse)
        read = [name for name in mapping.messages if name not in made]
        read += mapping.verdict.answers if mapping.verdict is not None and len(read) < len(mapping.messages) else ()
        yield f"{whole} ({keys}) in {_listed(read)}"
    if mapping.is_whole and mapping.messages:
        if not set(mapping.inputs.values()).isdisjoint(set(mapping.messages) - {mapping.chosen}):
            yield "they begin with the prompt"
        elif mapping.rejected is not None:
            yield "the messages that chosen and rejected share are the prompt"
        else:
            yield "what follows the last question is learned"
    if mapping.tools is not None:
        yield f"tools in {mapping.tools}"
    count = f"{seen.low}" if seen.low == seen.high else f"{seen.low} to {seen.high}"
    yield f"{count} {'message' if seen.high == 1 else 'messages'} before an answer"


def _prompt_column(mapping: Columns) -> str | None:
    """The column with the prompt as text, besides whole conversations, which are trained on."""
    column = next((name for name in mapping.inputs.values() if name not in mapping.absent), None)
    return column if mapping.is_whole and column not in mapping.messages else None


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _verdicts(table: Table, mapping: Columns, read: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Unused columns that say which of two answers is better, each with its cells."""
    names = [*columns_of(mapping.chosen), *columns_of(mapping.rejected)]
    for column in [
        name for name in table.columns if name not in read and has_word(name, WINNERS) and not has_word(name, DEGREES)
    ]:
        cells = {row.cells[column].strip() for row in table.rows}
        sides = sides_in(cells, names if len(names) == 2 else ("A", "B")) if len(cells) <= _SIDES else []
        if sides:
            yield column, ", ".join(sides)


def _as_verdict(mapping: Columns, column: str) -> str:
    """The setting that reads the ``column`` of verdicts, as the end of a sentence."""
    if not isinstance(mapping.chosen, str) or not isinstance(mapping.rejected, str):
        return "; write better answers into one column, worse ones into another"
    keys = f"answers: {flow([mapping.chosen, mapping.rejected])}, winner: {flow(column)}"
    return f"; to read it, write {keys} in place of chosen and rejected in dpo_column_mapping_config"


def _unused(table: Table, used: Sequence[str], mapping: Columns | None = None) -> Iterator[str]:
    """``mapping``: of a table of pairs."""
    columns = [column for column in table.columns if column not in table.made]
    unused = [column for column in columns if column not in used]
    for column in list(unused):
        how = None if mapping is None else _meant(table, column, mapping)
        if how is not None:
            unused.remove(column)
            yield Warned(f"{table.name}: column {column!r} is in no prompt; {how}")
    if unused:
        yield f"{table.name}: unused columns: {', '.join(unused)} ({len(unused)} of {len(columns)})"


def _meant(table: Table, column: str, mapping: Columns) -> str | None:
    """What reads an unused ``column`` that other tools make a part of each prompt, None for another one."""
    cells = [row.cells[column] for row in table.rows if row.cells[column].strip()]
    if not cells:
        return None
    if column.lower() == "history":
        return "make the prompts lists of messages"
    if mapping.system is None and is_named(column, SYSTEMS):
        return f"to put it before each prompt, add system: {column} to dpo_column_mapping_config"
    inputs = list(mapping.inputs.items())
    is_long = is_named(column, ("input",)) or sum(map(len, cells)) > _LONG * len(cells)
    if is_named(column, PARTS) and is_long and len(inputs) == 1 and not mapping.asks_in_messages:
        return f"to put it behind each prompt, write input_columns: {flow({**mapping.inputs, column: column})}"
    return None


def _is_system(name: str) -> bool:
    """Whether a column called ``name`` has system messages, also where these are short; personas may be groups of pairs."""
    return is_named(name, SYSTEMS) and not is_named(name, ("persona",))


def _are_labels(values: Sequence[str]) -> bool:
    """Whether they name groups of pairs, which `learned --by` and the report show: a few words each, and each for several rows.

    What is longer may be a text that the mapping forgot.
    """
    names = set(values)
    return 2 * len(names) <= len(values) and all(len(name.split()) <= _WORDS for name in names)
