"""Rows + mapping + prompt table -> text pairs, and every check that needs no tokenizer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path

from ..errors import DataError, ExperimentError, Mistake, nearest
from ..experiment.schema import Experiment
from ..runs.run_dir import write_whole
from .rows import Reading, read_tables
from .sheets.spreadsheet import Spreadsheet
from .table import Row, Table, Tables

PROMPT_COLUMNS = ("name", "system", "user")

_BRACES = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]")
_LONE_PLACEHOLDER = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")
# What Sheets shows where a formula has no value, or none yet.
_ERRORS = ("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#ERROR!", "Loading...")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Pair:
    """One preference as text, before any chat template; ``line`` is where its row begins in the file or worksheet."""

    system: str | None
    user: str
    chosen: str
    rejected: str
    line: int


@dataclass(frozen=True)
class Source:
    """A file or worksheet that was read: ``role`` is ``train``, ``validation`` or ``prompts``; ``rows`` is their number."""

    role: str
    name: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Pairs:
    """All pairs in the order of their rows; ``notices`` are sentences about what is allowed, but worth a look.

    ``spreadsheet`` is what was read, where the data are worksheets: a run keeps a copy.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    sources: tuple[Source, ...]
    notices: tuple[str, ...]
    spreadsheet: Spreadsheet | None = None


@dataclass(frozen=True)
class _Prompt:
    """``user`` is a list of literal text (even places) and placeholder names (odd places)."""

    system: str | None
    user: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        # Joined, not formatted: braces in a cell are text.
        return "".join(values[part] if n % 2 else part for n, part in enumerate(self.user))


@dataclass(frozen=True)
class _Mapping:
    """Which columns make what: ``inputs`` is placeholder -> column, an answer a column or JSON key -> column."""

    inputs: Mapping[str, str]
    chosen: str | Mapping[str, str]
    rejected: str | Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every mapped column once, in the order of the mapping."""
        return tuple(dict.fromkeys([*self.inputs.values(), *_columns_of(self.chosen), *_columns_of(self.rejected)]))


def read_pairs(experiment: Experiment, reading: Reading) -> Pairs:
    """Reads the experiment's tables and renders every row.

    An answer that is mapped as JSON key -> column becomes one JSON object with the keys in that order. Its values are
    always strings: a cell ``3`` or ``{"a": 1}`` is text like any other.

    Raises ExperimentError if mapping and prompt settings cannot be meant, and DataError with all mistakes of all rows at once.
    """
    tables, mapping = read_tables(experiment, reading), _mapping(experiment)
    _check_settings(experiment, mapping, tables)
    mistakes: list[Mistake] = []
    prompt = _prompt(experiment, mapping, tables.prompts, mistakes)
    parts = [table for table in (tables.train, tables.validation) if table is not None]
    for table in parts:
        missing = _missing_columns(table, mapping)
        mistakes += missing
        if not missing:
            mistakes += _cell_mistakes(table, mapping)
    if mistakes:
        raise DataError(mistakes)
    rendered = [tuple(_pair(row, mapping, prompt) for row in table.rows) for table in parts]
    train, validation = rendered[0], rendered[1] if len(rendered) > 1 else ()
    notices = [*_content_notices(train, validation), *_table_notices(experiment, tables, mapping, prompt)]
    return Pairs(train, validation, tuple(_sources(tables)), tuple(notices), tables.spreadsheet)


def write_processed(pairs: Pairs, folder: Path) -> tuple[Path, ...]:
    """Writes ``train.jsonl`` and, if there are such pairs, ``validation.jsonl``: a line a pair, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, part in (("train", pairs.train), ("validation", pairs.validation)):
        path = folder / f"{name}.jsonl"
        if not part:
            path.unlink(missing_ok=True)  # an earlier experiment's pairs are not this one's
            continue
        write_whole(path, "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in part))
        written.append(path)
    return tuple(written)


def _mapping(experiment: Experiment) -> _Mapping:
    columns = experiment.columns
    assert columns.input_columns is not None
    assert columns.chosen is not None
    assert columns.rejected is not None
    return _Mapping(columns.input_columns, columns.chosen, columns.rejected)


def _check_settings(experiment: Experiment, mapping: _Mapping, tables: Tables) -> None:
    mistakes = []
    hint = f"set {'prompt_sheet' if tables.train.is_worksheet else 'prompt_filename'}"
    if not mapping.inputs:
        mistakes.append(Mistake("input_columns", "the mapping is empty", expected="placeholder: column"))
    mistakes += [
        Mistake(answer, "the mapping is empty", expected="a column, or JSON key: column")
        for answer in ("chosen", "rejected")
        if not getattr(mapping, answer)
    ]
    if mapping.chosen and mapping.chosen == mapping.rejected:
        columns = ", ".join(_columns_of(mapping.chosen))
        mistakes.append(
            Mistake("rejected", "is the column of chosen, too: every pair would prefer nothing", "another column", columns)
        )
    if tables.prompts is None and len(mapping.inputs) > 1:
        mistakes.append(
            Mistake(
                "input_columns",
                "several input columns need a prompt table that says how they make one message",
                expected="one input column, or a prompt table",
                found=", ".join(mapping.inputs),
                hint=hint,
            )
        )
    default = Experiment.model_fields["prompt_name"].default
    if tables.prompts is None and experiment.prompt_name != default:
        mistakes.append(Mistake("prompt_name", f"there is no prompt table to hold {experiment.prompt_name!r}", hint=hint))
    if mistakes:
        raise ExperimentError(mistakes)


def _prompt(experiment: Experiment, mapping: _Mapping, table: Table | None, mistakes: list[Mistake]) -> _Prompt | None:
    """The chosen prompt row, or None with what is wrong added to ``mistakes``; without a table the one input is the message."""
    if table is None:
        return _Prompt(None, ("", next(iter(mapping.inputs)), ""))
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
                f"no prompt is named {experiment.prompt_name!r}",
                expected="the name in prompt_name",
                found=", ".join(_nearest_first(experiment.prompt_name, names)),
                hint=nearest(experiment.prompt_name, names),
            )
        )
        return None
    system, user = (table.place(row.line, column) for column in ("system", "user"))
    mistakes += _system_mistakes(system, row.cells["system"], mapping)
    mistakes += [m for c in ("system", "user") for m in _text_mistakes(table, row, c)]
    return _Prompt(row.cells["system"] or None, _template(user, row.cells["user"], mapping, mistakes))


def _name_mistakes(table: Table) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for row in table.rows:
        name, where = row.cells["name"], table.place(row.line, "name")
        if not name.strip():
            yield Mistake(where, "the prompt has no name", expected="a name in column 'name'")
        elif name in first:
            also = table.place(first[name], "name") if table.is_worksheet else f"on line {first[name]}"
            yield Mistake(where, f"a second prompt is named {name!r}", "unique names", f"the first is {also}")
        first.setdefault(name, row.line)


def _nearest_first(name: str, names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda other: -SequenceMatcher(None, name, other).ratio())


def _system_mistakes(where: str, system: str, mapping: _Mapping) -> list[Mistake]:
    # The system message is taken as it stands, so that it may hold JSON; only what would surely be meant is refused.
    return [
        Mistake(where, f"system holds the placeholder {{{name}}}", expected="placeholders in user only")
        for name in dict.fromkeys(_LONE_PLACEHOLDER.findall(system))
        if name in mapping.inputs
    ]


def _template(where: str, text: str, mapping: _Mapping, mistakes: list[Mistake]) -> tuple[str, ...]:
    """``text`` cut at its placeholders, doubled braces made single; ``mistakes`` grows by what does not fit the mapping."""
    parts, end = [""], 0
    for found in _BRACES.finditer(text):
        parts[-1] += text[end : found.start()]
        end = found.end()
        if found["name"] is not None:
            parts += [found["name"], ""]
        elif len(found[0]) == 2:
            parts[-1] += found[0][0]
        else:
            hint = "double it to mean the character"
            mistakes.append(Mistake(where, f"user has a single {found[0]!r}", found=_around(text, found.start()), hint=hint))
    parts[-1] += text[end:]
    used = dict.fromkeys(parts[1::2])
    for name in used:
        if name not in mapping.inputs:
            what = f"user has the placeholder {{{name}}}, which input_columns does not map"
            mistakes.append(Mistake(where, what, ", ".join(mapping.inputs), hint=nearest(name, mapping.inputs)))
    mistakes += [
        Mistake(where, f"user does not hold the placeholder {{{name}}}, which input_columns maps to {column!r}")
        for name, column in mapping.inputs.items()
        if name not in used
    ]
    return tuple(parts)


def _around(text: str, at: int) -> str:
    return json.dumps(text[max(0, at - 20) : at + 21], ensure_ascii=False)


def _missing_columns(table: Table, mapping: _Mapping) -> list[Mistake]:
    return [
        Mistake(
            table.place(table.line),
            f"there is no column {column!r}, which the mapping names",
            found=", ".join(table.columns),
            hint=nearest(column, table.columns),
        )
        for column in mapping.columns
        if column not in table.columns
    ]


def _cell_mistakes(table: Table, mapping: _Mapping) -> Iterator[Mistake]:
    for row in table.rows:
        where = table.place(row.line)
        empty = [c for c in mapping.columns if not row.cells[c].strip()]
        if empty and not any(cell.strip() for cell in row.cells.values()):
            yield Mistake(where, "the row has only empty cells", hint="delete the line")
            continue
        for column in empty:
            yield Mistake(table.place(row.line, column), f"the cell of column {column!r} is empty", expected="text")
        for column in mapping.columns:
            yield from _text_mistakes(table, row, column)
        answers = {*_columns_of(mapping.chosen), *_columns_of(mapping.rejected)}
        if not answers.intersection(empty) and _answer(row, mapping.chosen) == _answer(row, mapping.rejected):
            yield Mistake(where, "chosen and rejected are equal", hint="the row prefers nothing: change or delete it")


def _text_mistakes(table: Table, row: Row, column: str) -> Iterator[Mistake]:
    """What is no text in a cell: a control character, or what a formula shows in place of its value."""
    cell, where = row.cells[column], table.place(row.line, column)
    if table.is_worksheet and cell.strip() in _ERRORS:
        what = f"the cell of column {column!r} shows {cell.strip()!r} in place of a value"
        yield Mistake(where, what, "text", hint="see the formula in that cell")
    found = _CONTROL.search(cell)
    if found is not None:
        what = f"the cell of column {column!r} holds a control character"
        character = f"U+{ord(found[0]):04X} at character {found.start() + 1} of the cell"
        yield Mistake(where, what, "text, line breaks and tabs", character)


def _pair(row: Row, mapping: _Mapping, prompt: _Prompt | None) -> Pair:
    assert prompt is not None, "a prompt that is wrong is reported before rows are rendered"
    values = {placeholder: row.cells[column] for placeholder, column in mapping.inputs.items()}
    return Pair(prompt.system, prompt.fill(values), _answer(row, mapping.chosen), _answer(row, mapping.rejected), row.line)


def _answer(row: Row, answer: str | Mapping[str, str]) -> str:
    if isinstance(answer, str):
        return row.cells[answer]
    return json.dumps({key: row.cells[column] for key, column in answer.items()}, ensure_ascii=False)


def _columns_of(answer: str | Mapping[str, str]) -> Sequence[str]:
    return [answer] if isinstance(answer, str) else list(answer.values())


def _content_notices(train: Sequence[Pair], validation: Sequence[Pair]) -> Iterator[str]:
    def content(pair: Pair) -> tuple[str, str, str]:
        return pair.user, pair.chosen, pair.rejected

    counts = Counter(content(pair) for pair in train)
    repeated = len(train) - len(counts)
    if repeated:
        yield f"Training pairs that repeat an earlier one exactly: {repeated} of {len(train)}."
    leaked = sum(content(pair) in counts for pair in validation)
    if leaked:
        yield f"Validation pairs that are training pairs too, so that evaluations look too good: {leaked} of {len(validation)}."
    for role, part in (("Training", train), ("Validation", validation)):
        spaces = sum(pair.chosen.split() == pair.rejected.split() for pair in part)
        if spaces:
            yield f"{role} pairs whose answers differ only in white space: {spaces} of {len(part)}."


def _table_notices(experiment: Experiment, tables: Tables, mapping: _Mapping, prompt: _Prompt | None) -> Iterator[str]:
    for table in (tables.train, tables.validation):
        if table is None:
            continue
        for column in mapping.columns:
            kept = sum(row.cells[column] != row.cells[column].strip() for row in table.rows)
            if kept:
                yield f"{table.name}: white space around cells of column {column!r} was kept: {kept} of {len(table.rows)}."
        yield from _unused(table, mapping.columns)
    if tables.prompts is not None:
        yield from _unused(tables.prompts, PROMPT_COLUMNS)
    chosen, rejected = experiment.columns.chosen, experiment.columns.rejected
    if isinstance(chosen, Mapping) != isinstance(rejected, Mapping):
        as_json, as_text = ("chosen", "rejected") if isinstance(chosen, Mapping) else ("rejected", "chosen")
        yield f"{as_json} is a JSON object and {as_text} is plain text: the model will learn the form before anything else."
    if isinstance(chosen, Mapping) and isinstance(rejected, Mapping) and list(chosen) != list(rejected):
        keys = f"{', '.join(chosen)} against {', '.join(rejected)}"
        yield f"The JSON answers have other keys ({keys}): the model will learn the form before anything else."
    names = dict.fromkeys(_LONE_PLACEHOLDER.findall(prompt.system or "")) if prompt is not None else {}
    if names:
        shown = ", ".join(f"{{{name}}}" for name in names)
        yield f"Prompt {experiment.prompt_name!r}: system holds {shown}, which stays as it is; only user is filled in."


def _unused(table: Table, used: Sequence[str]) -> Iterator[str]:
    unused = [column for column in table.columns if column not in used]
    if unused:
        yield f"{table.name}: columns that are not used: {', '.join(unused)} ({len(unused)} of {len(table.columns)})."


def _sources(tables: Tables) -> Iterator[Source]:
    for role, table in (("train", tables.train), ("validation", tables.validation), ("prompts", tables.prompts)):
        if table is not None:
            yield Source(role, table.name, table.sha256, len(table.rows))
