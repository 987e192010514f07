"""Pairs: rows, column mapping and prompt table -> text pairs, with every check that needs no tokenizer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..errors import DataError, ExperimentError, Mistake
from ..experiment.schema import Experiment
from ..experiment.sections.data_file import file_of
from ..runs.whole import write_whole
from .checks.cells import check_rows
from .checks.chats import chat_of, with_system
from .checks.preferences import check_pairs
from .columns.inner import with_inner
from .columns.judged import judged
from .columns.mapping import Columns, answer_of, columns_from, missing_columns, named_columns, settings_mistakes
from .columns.verdicts import Verdict
from .findings import Findings, Found
from .held_out import chosen, held_out, others
from .notices import chat_notices, table_notices
from .prompt import Prompt, choose_prompt
from .tables.formats import read_table
from .tables.progress import Rows, nothing
from .tables.reading import Reading
from .tables.rows import read_readable
from .tables.sheets.spreadsheet import Spreadsheet
from .tables.streamed import Streamed
from .tables.table import Row, Table, Tables
from .text.chat import Chat
from .text.pair import Pair

_SHORT: Final = 80  # characters of a cell that can be the name of a group


@dataclass(frozen=True)
class Source:
    """A file or worksheet that was read: ``role`` is ``train``, ``validation`` or ``prompts``; ``rows`` is their number.

    ``hub``: of a dataset on the hub its name, its commit (``revision``), config and split. ``held_out``: the share of a table's
    pairs that ``validation_split`` has made validation pairs; both roles then name the same table.
    """

    role: str
    name: str
    sha256: str
    rows: int
    hub: Mapping[str, str | None] | None = None
    held_out: float | None = None

    def json(self) -> dict[str, Any]:
        found = {"role": self.role, "name": str(self.name), "sha256": self.sha256, "rows": self.rows}
        found |= {} if self.hub is None else {"hub": dict(self.hub)}
        return found if self.held_out is None else {**found, "held_out": self.held_out}


@dataclass(frozen=True)
class Pairs:
    """All pairs in the order of their rows, made again for each pass where the rows are.

    ``notices``: allowed but worth a look, ``Warned`` if harmful to the result. ``system``: the place of the system message.
    ``spreadsheet``: what was read, where the data are worksheets; a run keeps a snapshot. ``columns``: the other columns of the
    validation rows that can name groups, with a value for each pair. ``prompt``: what every user message was made with.
    ``mapped``: the columns that the prompt and the answers come from.
    ``found``: what the rules found, which ``notices`` say in sentences.
    """

    train: Sequence[Pair]
    validation: Sequence[Pair]
    sources: tuple[Source, ...]
    notices: tuple[str, ...]
    spreadsheet: Spreadsheet | None = None
    system: str | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prompt: Prompt | None = None
    mapped: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()

    @property
    def rows(self) -> dict[str, int]:
        """Names of the tables that were read -> their rows, of a table with held-out pairs all."""
        found: dict[str, int] = {}
        for source in self.sources:
            found[source.name] = found.get(source.name, 0) + source.rows
        return found


def read_pairs(experiment: Experiment, reading: Reading) -> Pairs:
    """Reads the experiment's tables and renders every row.

    An answer that is mapped as JSON key -> column becomes one JSON object with the keys in that order. Its values are
    always strings: a cell ``3`` or ``{"a": 1}`` is text like any other.

    Raises ExperimentError for wrong mapping and prompt settings, else DataError, each with all mistakes of all rows at once.
    """
    tables, mistakes = read_readable(experiment, reading)
    if tables is None:
        raise DataError(mistakes)
    tables, unjudged = _prepared(experiment, tables, reading)
    mapping = columns_from(experiment, tables.train)
    is_whole = not mistakes
    mistakes += unjudged
    wrong = settings_mistakes(experiment, mapping, tables) if is_whole else []
    prompt = choose_prompt(experiment, mapping, tables.prompts, mistakes) if is_whole and not wrong else None
    mapping = mapping if prompt is None else replace(mapping, optional=prompt.optional(mapping))
    parts = [table for table in (tables.train, tables.validation) if table is not None]
    findings = Findings(experiment.data_checks, reading.rows)
    chats = []
    for table in parts:
        mistakes += missing_columns(table, mapping, experiment)
        chats.append(check_rows(table, mapping, findings))
        mistakes += findings.taken()
    if wrong:
        raise ExperimentError([*wrong, *mistakes])
    if mistakes:
        raise DataError(mistakes)
    return _rendered(experiment, tables, mapping, prompt, findings, chats)


def _prepared(experiment: Experiment, tables: Tables, reading: Reading) -> tuple[Tables, list[Mistake]]:
    """The tables with the columns that the experiment makes of others, and the mistakes."""
    mistakes = list[Mistake]()
    train, validation = (
        None if table is None else prepared(table, experiment, mistakes, reading.rows)
        for table in (tables.train, tables.validation)
    )
    assert train is not None
    return replace(tables, train=train, validation=validation), mistakes


def prepared(table: Table, experiment: Experiment, mistakes: list[Mistake], tell: Rows = nothing) -> Table:
    """``table`` with the inner values that the experiment names and, of compared answers, the better and the worse ones."""
    table = with_inner(table, dict.fromkeys(column for _, column in named_columns(experiment)), mistakes, tell)
    verdict = Verdict.of(experiment.columns)
    return table if verdict is None else judged(table, verdict, mistakes, tell)


def _rendered(
    experiment: Experiment,
    tables: Tables,
    mapping: Columns,
    prompt: Prompt | None,
    findings: Findings,
    chats: Sequence[Sequence[Chat]],
) -> Pairs:
    """The pairs of tables without a mistake in a row; raises DataError for what the rules find between pairs.

    ``chats``: of each table the messages of its rows, empty if they have none or are not in memory.
    """
    parts = [table for table in (tables.train, tables.validation) if table is not None]
    rendered = [_pairs(table, mapping, prompt, kept) for table, kept in zip(parts, chats, strict=True)]
    check_pairs(parts, rendered, findings)
    if findings.mistakes:
        raise DataError(findings.mistakes)
    recognised = [
        one for table, pairs in zip(parts, rendered, strict=True) for one in chat_notices(table, mapping, prompt, pairs)
    ]
    place = prompt.place if prompt is not None else None
    split, share = tables, experiment.validation_split
    if share is not None:
        flags = held_out(rendered[0], share, tables.train.name)
        split, rendered = _divided(tables, flags), [chosen(rendered[0], others(flags)), chosen(rendered[0], flags)]
    columns = {} if split.validation is None else group_columns(split.validation, mapping)
    notices = [*recognised, *findings.notices(), *table_notices(experiment, tables, mapping, prompt, columns)]
    return Pairs(
        rendered[0],
        rendered[1] if len(rendered) > 1 else (),
        tuple(_sources(split, share)),
        tuple(notices),
        tables.spreadsheet,
        place,
        columns,
        prompt,
        tuple(name for name in mapping.read if name != mapping.tools),
        tuple(findings.found()),
    )


def read_other(experiment: Experiment, file: Path, prompt: Prompt) -> Pairs:
    """The pairs of another ``file``, by the experiment's mapping and rendered with ``prompt``; raises DataError."""
    mistakes = list[Mistake]()
    try:
        table = read_table(str(file), Path(file_of(str(file))), mistakes)
    except OSError as error:
        reason = "file not found" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise DataError(Mistake(str(file), reason, expected="a file of data")) from error
    table = None if table is None else prepared(table, experiment, mistakes)
    mapping = columns_from(experiment, table)
    mapping = replace(mapping, optional=prompt.optional(mapping))
    if table is not None:
        mistakes += missing_columns(table, mapping, experiment)
        chats = check_rows(table, mapping, findings := Findings(experiment.data_checks))
        mistakes += findings.taken()
    if mistakes or table is None:
        raise DataError(mistakes)
    pairs = _pairs(table, mapping, prompt, chats)
    source = Source("validation", table.name, table.sha256, len(table.rows) + table.left_out)
    return Pairs((), pairs, (source,), (), None, prompt.place, group_columns(table, mapping), prompt)


def group_columns(table: Table, mapping: Columns) -> dict[str, tuple[str, ...]]:
    """The columns of ``table`` that are not mapped and hold short text only, each with the values of all rows."""
    used = {*mapping.used, *mapping.read, *table.made, *table.inner.values()}
    found: dict[str, list[str]] = {name: [] for name in table.columns if name not in used}
    for row in table.rows:
        for name in [name for name in found if len(row.cells[name]) > _SHORT]:
            del found[name]
        for name, values in found.items():
            values.append(sys.intern(row.cells[name]))  # a group's name repeats
    return {name: tuple(values) for name, values in found.items() if any(values)}


def write_processed(pairs: Pairs, folder: Path) -> tuple[Path, ...]:
    """Writes ``train.jsonl`` and, with validation pairs, ``validation.jsonl``: one pair per line, each complete or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, part in (("train", pairs.train), ("validation", pairs.validation)):
        path = folder / f"{name}.jsonl"
        if not part:
            path.unlink(missing_ok=True)  # an earlier experiment's pairs are not this one's
            continue
        write_whole(path, (json.dumps(pair.json(), ensure_ascii=False) + "\n" for pair in part))
        written.append(path)
    return tuple(written)


def _pairs(table: Table, mapping: Columns, prompt: Prompt | None, chats: Sequence[Chat]) -> Sequence[Pair]:
    assert prompt is not None, "mistakes of the prompt are raised before rows are rendered"
    if chats:
        return tuple(_chat_pair(row, chat, mapping, prompt) for row, chat in zip(table.rows, chats, strict=True))
    pairs = Streamed(len(table.rows), lambda: (_pair(table, row, mapping, prompt) for row in table.rows))
    return tuple(pairs) if isinstance(table.rows, tuple) else pairs


def _pair(table: Table, row: Row, mapping: Columns, prompt: Prompt) -> Pair:
    if mapping.has_chats:
        return _chat_pair(row, chat_of(table, row, mapping), mapping, prompt)
    rejected = None if mapping.rejected is None else answer_of(row, mapping.rejected)
    return Pair(prompt.system, _user(row, mapping, prompt), answer_of(row, mapping.chosen), rejected, row.line)


def _chat_pair(row: Row, chat: Chat, mapping: Columns, prompt: Prompt) -> Pair:
    if not chat.prompt:
        chat = replace(chat, prompt=({"role": "user", "content": _user(row, mapping, prompt)},))
    chat = replace(chat, prompt=with_system(chat.prompt, row.cells, mapping))
    return Pair.of_chat(None if chat.has_system else prompt.system, chat, row.line)


def _user(row: Row, mapping: Columns, prompt: Prompt) -> str:
    return prompt.fill({placeholder: row.cells[column] for placeholder, column in mapping.inputs.items()})


def _divided(tables: Tables, flags: bytes) -> Tables:
    """The tables, with the flagged rows moved to a validation table."""
    whole = tables.train
    held = replace(whole, rows=chosen(whole.rows, flags), left_out=0)
    return replace(tables, train=replace(whole, rows=chosen(whole.rows, others(flags))), validation=held)


def _sources(tables: Tables, share: float | None) -> Iterator[Source]:
    """``share``: see ``Source.held_out``."""
    for role, table in (("train", tables.train), ("validation", tables.validation), ("prompts", tables.prompts)):
        if table is not None:
            rows = len(table.rows) + table.left_out
            yield Source(role, table.name, table.sha256, rows, table.hub, None if role == "prompts" else share)
