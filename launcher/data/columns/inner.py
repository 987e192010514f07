"""Inner values: ``input.messages`` reaches into the objects of column ``input``, as a column that everything else reads.

A number is a place in a list, and another key is that of each object in it: ``annotations.0.value``, ``completions.response``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from ...errors import Mistake
from ..tables.formats import text_of
from ..tables.progress import Rows, nothing, watched
from ..tables.streamed import Streamed
from ..tables.table import Row, Table
from ..text.messages import Unreadable, loaded, shown

_MANY: Final = 20  # mistakes of one table
_LOOKED_AT: Final = 20  # rows
_ABSENT: Final = object()


def split(name: str, columns: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """(column, keys inside its objects) of ``name``, which is one of ``columns`` or begins with one and a dot."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (column := ".".join(parts[:end])) in columns:
            return column, tuple(parts[end:])
    return name, ()


def with_inner(table: Table, names: Iterable[str], mistakes: list[Mistake], tell: Rows = nothing) -> Table:
    """``table`` with a column for each of ``names`` that it lacks and that reaches into one of its columns.

    A row without the value has an empty cell; a cell that holds no object is a mistake, which is added to ``mistakes``. A name
    that no row has stays missing.
    """
    wanted = {name: split(name, table.columns) for name in names if name not in table.columns}
    wanted = {name: (column, keys) for name, (column, keys) in wanted.items() if keys}
    if not wanted:
        return table
    found, wrong = dict.fromkeys(wanted, False), list[Mistake]()
    for row in watched(table.rows, f"reading {', '.join(wanted)} of {table.name}", tell):
        for name, value in _values(table, row, wanted, wrong).items():
            found[name] = found[name] or value is not _ABSENT
    mistakes += wrong
    inner = _Inner(table, {name: place for name, place in wanted.items() if found[name]})
    if not inner.places:
        return table
    rows = table.rows
    letters = {name: table.letters[column] for name, (column, _) in inner.places.items()} if table.letters else {}
    return replace(
        table,
        columns=(*table.columns, *inner.places),
        rows=tuple(map(inner.filled, rows)) if isinstance(rows, tuple) else Streamed(len(rows), lambda: map(inner.filled, rows)),
        letters=table.letters and {**table.letters, **letters},
        made=(*table.made, *inner.places),
        inner={**table.inner, **{name: column for name, (column, _) in inner.places.items()}},
    )


@dataclass(frozen=True)
class _Inner:
    """``places``: name -> the column and the keys inside."""

    table: Table
    places: Mapping[str, tuple[str, tuple[str, ...]]]

    def filled(self, row: Row) -> Row:
        found = _values(self.table, row, self.places, [])
        return replace(row, cells={**row.cells, **{name: _text(value) for name, value in found.items()}})


def _text(value: Any) -> str:
    return "" if value is _ABSENT else text_of(value)


def _values(table: Table, row: Row, wanted: Mapping[str, tuple[str, tuple[str, ...]]], mistakes: list[Mistake]) -> dict[str, Any]:
    """The values of one row by name; each column is parsed once."""
    wholes: dict[str, Any] = {}
    for column in {column for column, _ in wanted.values()}:
        try:
            wholes[column] = loaded(row.cells[column]) if row.cells[column].strip() else None
        except Unreadable:
            wholes[column] = _ABSENT
        if not isinstance(wholes[column], dict | list | None) and len(mistakes) < _MANY:
            keys = ", ".join(dict.fromkeys(keys[0] for one, keys in wanted.values() if one == column))
            what, expected = f"no object in column {column!r}", f"an object with {keys}, or a list of such"
            mistakes.append(Mistake(table.place(row.line, column), what, expected, shown(row.cells[column])))
    return {name: inside(wholes[column], keys) for name, (column, keys) in wanted.items()}


def inside(value: Any, keys: Sequence[str]) -> Any:
    """The value under ``keys``, of a list those of its objects."""
    for number, key in enumerate(keys):
        if isinstance(value, list) and key.isdigit():
            value = value[int(key)] if int(key) < len(value) else _ABSENT
        elif isinstance(value, list):
            several = [inside(one, keys[number:]) for one in value]
            return _ABSENT if all(one is _ABSENT for one in several) else [None if one is _ABSENT else one for one in several]
        else:
            value = value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def with_inner_values(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``record`` with the values of ``names`` that reach into it."""
    found = dict(record)
    for name in names:
        column, keys = split(name, list(record))
        value = inside(record[column], keys) if keys else _ABSENT
        if value is not _ABSENT:
            found[name] = value
    return found


def names_beside(name: str, table: Table) -> list[str]:
    """What the first objects of ``table`` have in the place that ``name`` reaches into; () of a name that reaches into none."""
    column, keys = split(name, table.columns)
    found: dict[str, None] = {}
    for row in islice(table.rows, _LOOKED_AT) if keys else ():
        try:
            value = inside(loaded(row.cells[column]), keys[:-1])
        except Unreadable:
            continue
        for one in value if isinstance(value, list) else [value]:
            found |= dict.fromkeys(one if isinstance(one, dict) else ())
    return [".".join((column, *keys[:-1], key)) for key in found]
