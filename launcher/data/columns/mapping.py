"""The columns that make prompt and answers, and mistakes in a mapping."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ...errors import Mistake, nearest
from ...experiment.schema import Experiment
from ...experiment.sections.columns import COLUMN_KEYS
from ...experiment.text.flow import flow
from ..tables.table import Row, Table, Tables
from ..text.messages import Spelling, Unreadable, is_tools
from .answers import UNKNOWN
from .inner import names_beside
from .known_names import CONVERSATIONS, TOOLS
from .proposed import proposed
from .verdicts import Verdict

ANSWER: Final = "answer"  # a column of data for SFT
_LOOKED_AT: Final = 20  # cells of a column, until one tells what it holds


@dataclass(frozen=True)
class Columns:
    """``inputs``: placeholder -> column; an answer is one column, or JSON key -> column; None: no rejected answers are read.

    ``messages``: columns that hold lists of messages. ``is_whole``: the answers are whole conversations, which begin with the
    prompt; ``absent``: input columns that the table lacks then. ``tools``: the column of what an answer may call.
    ``system``: the column of each row's system message, whose cells may be empty.
    ``optional``: input columns whose cells may be empty.
    ``verdict``: what says which answer is better, where the answers are compared: then they are columns of ``judged.judged``.
    """

    inputs: Mapping[str, str]
    chosen: str | Mapping[str, str]
    rejected: str | Mapping[str, str] | None
    messages: tuple[str, ...] = ()
    is_whole: bool = False
    absent: frozenset[str] = frozenset()
    tools: str | None = None
    spelling: Spelling = field(default_factory=Spelling)
    system: str | None = None
    optional: frozenset[str] = frozenset()
    verdict: Verdict | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every mapped column once, in the mapping's order; not system and tools, whose cells may be empty."""
        inputs = [column for column in self.inputs.values() if column not in self.absent]
        return tuple(dict.fromkeys([*inputs, *columns_of(self.chosen), *columns_of(self.rejected)]))

    @property
    def used(self) -> tuple[str, ...]:
        return (*self.columns, *(name for name in (self.system, self.tools) if name is not None))

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that are read of a file: of compared answers those with all of them, and what compares them."""
        if self.verdict is None:
            return self.used
        made = (self.verdict.better, self.verdict.worse)
        return (*(name for name in self.used if name not in made), *self.verdict.columns)

    @property
    def has_chats(self) -> bool:
        return bool(self.messages) or self.tools is not None or self.system is not None

    @property
    def asks_in_messages(self) -> bool:
        """Whether the prompt is a list of messages."""
        return self.is_whole or not set(self.messages).isdisjoint(self.inputs.values())


def columns_from(experiment: Experiment, table: Table | None) -> Columns:
    """The mapping for ``table``. SFT takes ``answer`` where it has no ``chosen`` and no mapping names a column.

    Columns of conversations are recognised by their first cells, unless the rule messages_as_text is not an error: then they are
    text.
    """
    columns, present = experiment.columns, () if table is None else table.columns
    verdict = Verdict.of(columns)
    if verdict is not None:
        worse = None if experiment.is_sft else verdict.worse
        columns = columns.model_copy(update={"chosen": verdict.better, "rejected": worse})
    assert columns.input_columns is not None
    assert columns.chosen is not None
    has_answers = ANSWER in present and columns.chosen not in present
    chosen = ANSWER if experiment.is_sft and not experiment.names_answers and has_answers else columns.chosen
    spelling = Spelling.of(columns)
    mapping = Columns(
        columns.input_columns,
        chosen,
        columns.rejected,
        tools=columns.tools,
        spelling=spelling,
        system=columns.system,
        verdict=verdict,
    )
    if table is None or not _reads_messages(experiment):
        return mapping
    return _recognised(experiment, mapping, table)


def prompt_columns(experiment: Experiment, table: Table | None = None) -> Columns:
    """The mapping of the prompts alone, for a ``table`` that need not have answers, nor system messages."""
    columns = experiment.columns
    assert columns.input_columns is not None
    system = columns.system if table is None or columns.system in table.columns else None
    found = Columns(columns.input_columns, {}, None, spelling=Spelling.of(columns), system=system)
    if table is None or not _reads_messages(experiment):
        return found
    held = _held(table, found.spelling)
    if not experiment.names_inputs and not set(found.inputs.values()) & set(table.columns):
        inputs = next(({name: column} for name in found.inputs for column in CONVERSATIONS if column in held), found.inputs)
        found = replace(found, inputs=inputs)
    messages = tuple(column for column in found.columns if column in held)
    return replace(found, messages=messages, tools=_tools(columns.tools, table))


def _reads_messages(experiment: Experiment) -> bool:
    return experiment.data_checks.action("messages_as_text") == "error"


def _held(table: Table, spelling: Spelling) -> Mapping[str, str]:
    """The columns of ``table`` that hold messages, each with a cell."""
    head = table.rows[:_LOOKED_AT]
    cells = {column: [row.cells[column] for row in head] for column in table.columns}
    return {column: cell for column in table.columns if (cell := _sample(cells[column], spelling)) is not None}


def _tools(named: str | None, table: Table, taken: Sequence[str] = ()) -> str | None:
    """The column of the tools: the one that is ``named``, or ``tools`` where it holds such and is not ``taken``."""
    if named is not None or TOOLS not in table.columns or TOOLS in taken:
        return named
    first = next((row.cells[TOOLS] for row in table.rows[:_LOOKED_AT] if row.cells[TOOLS].strip()), "")
    return TOOLS if is_tools(first) else None


def _recognised(experiment: Experiment, mapping: Columns, table: Table) -> Columns:
    """``mapping`` with what the cells of ``table`` tell: which columns hold messages, and what they are."""
    spelling, inputs, chosen = mapping.spelling, mapping.inputs, mapping.chosen
    held = _held(table, spelling)
    answered = {column for column, cell in held.items() if _role(spelling, cell, -1) == "assistant"}
    if not experiment.names_inputs and not set(inputs.values()) & set(table.columns):
        asked = [column for column in CONVERSATIONS if column in held and (experiment.is_sft or column not in answered)]
        inputs = next(({name: column} for name in inputs for column in asked), inputs)
    column = next(iter(inputs.values()), "")
    if experiment.is_sft and not experiment.names_answers and chosen not in table.columns:
        chosen = next((name for name in (column, *CONVERSATIONS) if name in answered), chosen)
    mapping = replace(mapping, inputs=inputs, chosen=chosen)
    answer = held.get(chosen) if isinstance(chosen, str) else None
    lacks_prompt = not set(inputs.values()) & set(table.columns)
    is_whole = answer is not None and (chosen == column or lacks_prompt or _role(spelling, answer, 0) not in (None, "assistant"))
    absent = frozenset(inputs.values()) - set(table.columns) if is_whole else frozenset()
    of_json = [name for answer in (chosen, mapping.rejected) if isinstance(answer, Mapping) for name in answer.values()]
    messages = tuple(name for name in mapping.columns if name in held and name not in of_json)
    tools = _tools(mapping.tools, table, mapping.columns)
    return replace(mapping, messages=messages, is_whole=is_whole, absent=absent, tools=tools)


def _sample(cells: Sequence[str], spelling: Spelling) -> str | None:
    """The first of ``cells`` that can be read as messages, or is meant as such; None for a column of another kind."""
    cells = [cell for cell in cells if cell.strip()]
    if not cells or not spelling.is_messages(cells[0]):
        return None
    return next((cell for cell in cells if _role(spelling, cell, 0) is not None), cells[0])


def _role(spelling: Spelling, cell: str | None, place: int) -> str | None:
    """The role of a message of ``cell``, None if it cannot be read."""
    try:
        return None if cell is None else str(spelling.read(cell)[place]["role"])
    except Unreadable:
        return None


def settings_mistakes(experiment: Experiment, mapping: Columns, tables: Tables) -> list[Mistake]:
    """Mistakes in the mapping and the prompt's settings, whatever the columns contain."""
    mistakes = []
    hint = f"set {'prompt_sheet' if tables.train.is_worksheet else 'prompt_filename'}"
    if not mapping.inputs:
        mistakes.append(Mistake("input_columns", "the mapping is empty", expected="placeholder: column"))
    mistakes += [
        Mistake(answer, "the mapping is empty", expected="a column, or JSON key: column")
        for answer in ("chosen", "rejected")
        if getattr(mapping, answer) is not None and not getattr(mapping, answer)
    ]
    if mapping.chosen and mapping.chosen == mapping.rejected:
        columns = ", ".join(columns_of(mapping.chosen))
        mistakes.append(Mistake("rejected", "the same column as chosen: no pair states a preference", "another column", columns))
    if tables.prompts is None and len(mapping.inputs) > 1 and mapping.asks_in_messages:
        talk = next((column for column in mapping.inputs.values() if column in mapping.messages), None)
        what = "the answers are whole conversations" if talk is None else f"column {talk!r} holds whole prompts, as messages"
        found = ", ".join(mapping.inputs.values())
        mistakes.append(Mistake("input_columns", f"{what}: no other column can be added", "one input column", found))
    default = Experiment.model_fields["prompt_name"].default
    if tables.prompts is None and experiment.prompt_name != default:
        mistakes.append(Mistake("prompt_name", f"no prompt table for the prompt {experiment.prompt_name!r}", hint=hint))
    return mistakes


def missing_columns(table: Table, mapping: Columns, experiment: Experiment) -> Iterator[Mistake]:
    """A mistake at each setting that names a column which ``table`` lacks; at the header for those that a default names.

    None of a table without rows: why they are left out is told already, and they alone tell whether answers hold the prompt.
    """
    if not len(table.rows):
        return
    found, unnamed = ", ".join(table.columns), []
    for column in mapping.read:
        if column in table.columns:
            continue
        inner = names_beside(column, table)
        there, hint = ", ".join(inner) or found, nearest(column, inner or table.columns)
        settings = [path for path, named in named_columns(experiment) if named == column]
        for path in settings:
            yield Mistake(path, f"missing column {column!r} in {table.place(table.line)}", found=there, hint=hint)
        if not settings and hint is not None:
            yield Mistake(table.place(table.line), f"missing column {column!r}", found=found, hint=hint)
        elif not settings:
            unnamed.append(column)
    if unnamed:
        what = f"missing {'column' if len(unnamed) == 1 else 'columns'} {', '.join(map(repr, unnamed))}"
        yield Mistake(
            table.place(table.line), what, found=found, hint=f"name your columns: {_as_setting(unnamed, mapping, table)}"
        )


def _as_setting(columns: Sequence[str], mapping: Columns, table: Table) -> str:
    """The YAML that names ``columns``, which are defaults, as ``table`` looks; with a word to replace where that is not known."""
    proposal = proposed(table)
    likely = proposal.mapping if proposal.is_sft == (mapping.rejected is None) else {}
    prompt = next(iter(likely.get("input_columns", {}).values()), UNKNOWN)
    inputs = {placeholder: prompt for placeholder, column in mapping.inputs.items() if column in columns}
    answers = {key: likely.get(key, UNKNOWN) for key in ("chosen", "rejected") if getattr(mapping, key) in columns}
    if len(answers) == 2 and "answers" in likely:
        answers = {key: value for key, value in likely.items() if key not in ("input_columns", "system")}
    return f"dpo_column_mapping_config: {flow({**({'input_columns': inputs} if inputs else {}), **answers})}"


def named_columns(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(path of the setting, column) of every column that the experiment names itself."""
    for section in ("dpo_column_mapping_config", "column_mapping_config"):
        mapping = getattr(experiment, section)
        for key in COLUMN_KEYS if mapping is not None else ():
            yield from _leaves(f"{section}.{key}", getattr(mapping, key))


def _leaves(path: str, value: str | Sequence[str] | Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, tuple):
        yield from ((path, one) for one in value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)


def answer_of(row: Row, answer: str | Mapping[str, str]) -> str:
    if isinstance(answer, str):
        return row.cells[answer]
    return json.dumps({key: row.cells[column] for key, column in answer.items()}, ensure_ascii=False)


def columns_of(answer: str | Mapping[str, str] | None) -> Sequence[str]:
    if answer is None:
        return []
    return [answer] if isinstance(answer, str) else list(answer.values())
