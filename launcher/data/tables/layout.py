"""Finds the table in a file's records: spreadsheets and pandas leave lines and columns around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...errors import Mistake

Record = tuple[int, list[str]]  # the line where it begins, and its cells

_SEPARATOR: Final = re.compile(r"sep=(.)\r?(?:\n|\Z)", re.IGNORECASE)

_TITLES: Final = 5  # lines of a title at most
_NAME: Final = 60  # characters of a column's name at most
_COLUMNS: Final = frozenset(("prompt", "question", "query", "instruction", "input", "text", "chosen", "rejected", "answer"))


@dataclass(frozen=True)
class Layout:
    """``kept``: the places of the table's columns in a record, ``records``: the rows below the header. ``ignored``: sentences."""

    kept: tuple[int, ...]
    records: Sequence[Record]
    ignored: tuple[str, ...]


def separator(text: str) -> str | None:
    """The delimiter that a first line ``sep=;`` names, which Excel writes and reads."""
    found = _SEPARATOR.match(text)
    return None if found is None else found[1]


def laid_out(name: str, header: Sequence[str], records: Sequence[Record]) -> Layout:
    """The table without empty rows at its end, empty unnamed columns, and pandas' index."""
    ignored = []
    end = len(records)
    while end > 1 and not any(cell.strip() for cell in records[end - 1][1]):
        end -= 1
    if end < len(records):
        ignored.append(f"{name}: {_number(len(records) - end, 'empty row', ' at the end')} ignored")
    rows = records[:end]
    wide = max((len(cells) for _, cells in rows), default=0)
    unnamed = [place for place in range(max(wide, len(header))) if place >= len(header) or not header[place].strip()]
    empty = {place for place in unnamed if not any(place < len(cells) and cells[place].strip() for _, cells in rows)}
    if empty:
        ignored.append(f"{name}: {_number(len(empty), 'column', ' without name and cells')} ignored")
    index = (
        {0}
        if rows and 0 in unnamed and 0 not in empty and len(header) > 1 and _counts([cells[0] for _, cells in rows])
        else set()
    )
    if index:
        ignored.append(f"{name}: the first column, which has no name and counts the rows, is ignored")
    kept = tuple(place for place in range(len(header)) if place not in empty | index)
    return Layout(kept, [(line, _without(cells, len(header), empty)) for line, cells in rows], tuple(ignored))


def _number(count: int, what: str, where: str = "") -> str:
    return f"1 {what}{where} is" if count == 1 else f"{count} {what}s{where} are"


def _counts(cells: Sequence[str]) -> bool:
    """Whether ``cells`` are 0, 1, 2 … or 1, 2, 3 …, as pandas writes an index."""
    return all(cell == str(number) for number, cell in enumerate(cells)) or all(
        cell == str(number) for number, cell in enumerate(cells, 1)
    )


def _without(cells: list[str], width: int, empty: set[int]) -> list[str]:
    """``cells`` in the header's ``width``, where only columns in ``empty`` are missing or too many."""
    missing = range(len(cells), width)
    if empty.issuperset(missing):
        cells = [*cells, *("" for _ in missing)]
    return cells[:width] if empty.issuperset(range(width, len(cells))) else cells


def lines_above(records: Sequence[tuple[int, Sequence[str]]]) -> int:
    """How many of the first records are a title above the header."""
    for number in range(1, min(_TITLES, len(records) - 1) + 1):
        if _is_header([cells for _, cells in records[:number]], records[number][1]):
            return number
    return 0


def second_header(header: Sequence[str], below: Sequence[str], where: str) -> str | None:
    """The hint of a ``header`` with unnamed columns, where the row ``below`` (at ``where``) could have the names; else None."""
    names = [cell.strip() for cell in below]
    while names and not names[-1]:
        names.pop()
    above = [cell.strip().lower() for cell in header if cell.strip()]
    is_header = len(names) > 1 and all(names) and len(set(names)) == len(names) and max(map(len, names)) <= _NAME
    if not is_header or len(names) < len(above) or _COLUMNS.intersection(above) or any(name.isdigit() for name in names):
        return None
    return f"if {where} has the names of the columns, delete what is above it"


def title_mistake(where: str, records: Sequence[tuple[int, Sequence[str]]], above: int, header: str) -> Mistake:
    """The mistake of a title of ``above`` records; ``where`` is the place of the first, ``header`` that of the row below them."""
    title = ", ".join(cell.strip() for cell in records[0][1] if cell.strip())
    hint = f"delete the lines above {header}, which has the names of the columns"
    return Mistake(where, "a title above the header", "a header", title[:60], hint)


def _is_header(above: Sequence[Sequence[str]], cells: Sequence[str]) -> bool:
    """Whether ``cells`` are the names of columns below a title: one cell, or lines without a name that tables of pairs have."""
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names = names[:-1]
    while names and not names[0]:  # a table that does not begin in the first column
        names = names[1:]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names) or max(map(len, names)) > _NAME:
        return False
    titles = [cell.strip().lower() for line in above for cell in line if cell.strip()]
    if _COLUMNS.intersection(titles):
        return False
    return (len(above) == 1 and len(titles) == 1) or sum(name.lower() in _COLUMNS for name in names) > 1
