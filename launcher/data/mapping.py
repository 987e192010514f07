"""Columns: which columns of a table make the prompt and the answers, and what is wrong with a mapping."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ExperimentError, Mistake, nearest
from ..experiment.schema import Experiment
from .table import Row, Table, Tables


@dataclass(frozen=True)
class Columns:
    """``inputs``: placeholder -> column; an answer is one column, or JSON key -> column."""

    inputs: Mapping[str, str]
    chosen: str | Mapping[str, str]
    rejected: str | Mapping[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every mapped column once, in the order of the mapping."""
        return tuple(dict.fromkeys([*self.inputs.values(), *columns_of(self.chosen), *columns_of(self.rejected)]))


def columns_from(experiment: Experiment) -> Columns:
    columns = experiment.columns
    assert columns.input_columns is not None
    assert columns.chosen is not None
    assert columns.rejected is not None
    return Columns(columns.input_columns, columns.chosen, columns.rejected)


def check_settings(experiment: Experiment, mapping: Columns, tables: Tables) -> None:
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
    if mistakes:
        raise ExperimentError(mistakes)


def missing_columns(table: Table, mapping: Columns) -> list[Mistake]:
    return [
        Mistake(
            table.place(table.line),
            f"missing column {column!r}, which the column mapping names",
            found=", ".join(table.columns),
            hint=nearest(column, table.columns),
        )
        for column in mapping.columns
        if column not in table.columns
    ]


def answer_of(row: Row, answer: str | Mapping[str, str]) -> str:
    if isinstance(answer, str):
        return row.cells[answer]
    return json.dumps({key: row.cells[column] for key, column in answer.items()}, ensure_ascii=False)


def columns_of(answer: str | Mapping[str, str]) -> Sequence[str]:
    return [answer] if isinstance(answer, str) else list(answer.values())
