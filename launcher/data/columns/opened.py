"""Opened: a table with the values inside its objects as columns, for a person who has not named any. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from ..tables.table import Table
from ..text.messages import Spelling, Unreadable, loaded
from .inner import with_inner

LOOKED_AT: Final = 2000  # rows
_DEPTH: Final = 8
_SPELLING: Final = Spelling()


def opened(table: Table) -> Table:
    """The first rows of ``table``, where a column of objects is one for each value in them. Messages stay whole."""
    rows = tuple(islice(table.rows, LOOKED_AT))
    found = {column: list(_names([row.cells[column] for row in rows])) for column in table.columns}
    head = with_inner(replace(table, rows=rows), [f"{column}.{name}" for column, names in found.items() for name in names], [])
    return replace(head, columns=tuple(name for name in head.columns if not found.get(name)))


def _names(cells: Sequence[str]) -> Iterator[str]:
    cells = [cell for cell in cells if cell.strip()]
    if not cells or not all(cell.lstrip()[:1] in ("{", "[") for cell in cells) or _SPELLING.is_messages(cells[0]):
        return
    try:
        yield from _paths([loaded(cell) for cell in cells], _DEPTH)
    except Unreadable:
        return


def _paths(values: Sequence[Any], depth: int) -> Iterator[str]:
    """The names of what is inside ``values``: of objects their keys, of lists of one the place 0; none of plain values."""
    values = [value for value in values if value is not None]
    if not values or depth == 0 or _are_messages(values[0]):
        return
    if all(isinstance(value, dict) for value in values):
        steps = {str(key): [value[key] for value in values if key in value] for value in values for key in value}
    elif all(isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict | str) for value in values):
        steps = {"0": [value[0] for value in values]}
    else:
        return
    for key, inner in steps.items():
        deeper = list(_paths(inner, depth - 1))
        yield from [f"{key}.{name}" for name in deeper] or [key]


def _are_messages(value: Any) -> bool:
    return isinstance(value, list | dict) and _SPELLING.is_messages(json.dumps(value, default=str))
