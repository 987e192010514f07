"""What is wrong with the cells of a table that a mapping names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import Mistake
from .mapping import Columns, answer_of, columns_of
from .table import Row, Table

# What Sheets shows for a formula without a value, or without one yet.
_ERRORS = ("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#ERROR!", "Loading...")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def cell_mistakes(table: Table, mapping: Columns) -> Iterator[Mistake]:
    """The mistakes of the mapped cells; a column that ``table`` lacks is none of them."""
    columns = [column for column in mapping.columns if column in table.columns]
    answers = {*columns_of(mapping.chosen), *columns_of(mapping.rejected)}
    can_compare = answers.issubset(columns) and mapping.chosen != mapping.rejected
    for row in table.rows:
        where = table.place(row.line)
        empty = [c for c in columns if not row.cells[c].strip()]
        if empty and not any(cell.strip() for cell in row.cells.values()):
            yield Mistake(where, "empty row", hint="delete it")
            continue
        for column in empty:
            yield Mistake(table.place(row.line, column), f"empty cell in column {column!r}")
        for column in columns:
            yield from text_mistakes(table, row, column)
        if not can_compare or answers.intersection(empty):
            continue
        if answer_of(row, mapping.chosen) == answer_of(row, mapping.rejected):
            yield Mistake(where, "chosen and rejected are equal", hint="change or delete the row: it states no preference")


def text_mistakes(table: Table, row: Row, column: str) -> Iterator[Mistake]:
    """What is not text in a cell: a control character, or the error of a formula."""
    cell, where = row.cells[column], table.place(row.line, column)
    if table.is_worksheet and cell.strip() in _ERRORS:
        what = f"column {column!r} shows {cell.strip()!r} instead of a value"
        yield Mistake(where, what, hint="fix the formula in this cell")
    found = _CONTROL.search(cell)
    if found is not None:
        what = f"control character in column {column!r}"
        character = f"U+{ord(found[0]):04X} at character {found.start() + 1} of the cell"
        yield Mistake(where, what, "text, line breaks and tabs", character)
