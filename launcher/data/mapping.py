"""Columns: which columns of a table make the prompt and the answers, and what is wrong with a mapping."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import Mistake, nearest
from ..experiment.schema import Experiment
from .table import Row, Table, Tables

ANSWER: Final = "answer"  # a column of data for SFT


@dataclass(frozen=True)
class Columns:
    """``inputs``: placeholder -> column; an answer is one column, or JSON key -> column; None: no rejected answers are read."""

    inputs: Mapping[str, str]
    chosen: str | Mapping[str, str]
    rejected: str | Mapping[str, str] | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every mapped column once, in the order of the mapping."""
        return tuple(dict.fromkeys([*self.inputs.values(), *columns_of(self.chosen), *columns_of(self.rejected)]))


def columns_from(experiment: Experiment, present: Collection[str]) -> Columns:
    """``present``: the data's columns. SFT takes ``answer`` where they have no ``chosen`` and no mapping names a column."""
    columns = experiment.columns
    assert columns.input_columns is not None
    assert columns.chosen is not None
    has_answers = ANSWER in present and columns.chosen not in present
    chosen = ANSWER if experiment.is_sft and not experiment.names_answers and has_answers else columns.chosen
    return Columns(columns.input_columns, chosen, columns.rejected)


def settings_mistakes(experiment: Experiment, mapping: Columns, tables: Tables) -> list[Mistake]:
    """What is wrong with the mapping and the prompt's settings, whatever the columns hold."""
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
    if tables.prompts is None and len(mapping.inputs) > 1:
        mistakes.append(
            Mistake(
                "input_columns",
                "several input columns need a prompt table that combines them into one message",
                expected="one input column, or a prompt table",
                found=", ".join(mapping.inputs),
                hint=hint,
            )
        )
    default = Experiment.model_fields["prompt_name"].default
    if tables.prompts is None and experiment.prompt_name != default:
        mistakes.append(Mistake("prompt_name", f"no prompt table for the prompt {experiment.prompt_name!r}", hint=hint))
    return mistakes


def missing_columns(table: Table, mapping: Columns, experiment: Experiment) -> Iterator[Mistake]:
    """A mistake at each setting that names a column which ``table`` lacks; at the header where a default names it."""
    for column in mapping.columns:
        if column in table.columns:
            continue
        found, hint = ", ".join(table.columns), nearest(column, table.columns)
        settings = [path for path, named in _named(experiment) if named == column]
        for path in settings:
            yield Mistake(path, f"missing column {column!r} in {table.place(table.line)}", found=found, hint=hint)
        if not settings:
            what = f"missing column {column!r}, which the column mapping names"
            yield Mistake(table.place(table.line), what, found=found, hint=hint)


def _named(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """(path of the setting, column) of every column that the experiment names itself."""
    for section in ("dpo_column_mapping_config", "column_mapping_config"):
        mapping = getattr(experiment, section)
        for key in type(mapping).model_fields if mapping is not None else ():
            yield from _leaves(f"{section}.{key}", getattr(mapping, key))


def _leaves(path: str, value: str | Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif value is not None:
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
