"""The cells of a worksheet -> a table, and the place of every mistake that does not depend on the meaning of the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ...errors import Mistake
from .layout import lines_above, second_header, title_mistake
from .sheets.spreadsheet import Worksheet
from .table import Row, Table, place_of, worksheet_name

_SHOWN: Final = 3  # places of empty rows


def sheet_table(sheet: Worksheet, mistakes: list[Mistake], name: str | None = None) -> Table | None:
    """The table below the first row that is not empty, or None with its mistakes added to ``mistakes``.

    Empty rows are skipped everywhere, those between others with a notice. Sheets leaves out empty cells at the end of a row: a
    short row is filled up with them. A column without a name is skipped if it is empty: people use it as a separator. ``name``:
    of the table, where a file holds it.
    """
    name = name or worksheet_name(sheet.title)
    rows = [(line, cells) for line, cells in enumerate(sheet.values, 1) if any(cell.strip() for cell in cells)]
    if not rows:
        mistakes.append(Mistake(name, "the worksheet is empty", expected="a header row and rows below it"))
        return None
    (line, header), below = rows[0], rows[1:]
    above = lines_above(rows)
    if above:
        mistakes.append(title_mistake(place_of(name, line), rows, above, f"row {rows[above][0]}"))
        return None
    named = {column: number for number, column in enumerate(header) if column.strip()}
    letters = {column: letter(number) for column, number in named.items()}
    table = Table(name, tuple(named), (), sheet.sha256, line, letters)
    wrong = [*_repeated(table, header), *_unnamed(table, header, below)]
    if not below:
        wrong.append(Mistake(table.place(line), "no rows below the header", expected="at least one row"))
    mistakes += wrong
    if wrong:
        return None
    ignored = (*_skipped(name, [line, *(at for at, _ in below)]), *_merged(name, sheet.merged))
    found = tuple(Row(at, {c: cells[n] if n < len(cells) else "" for c, n in named.items()}) for at, cells in below)
    return Table(name, table.columns, found, sheet.sha256, line, letters, ignored)


def _skipped(name: str, lines: Sequence[int]) -> Iterator[str]:
    """A sentence about the empty rows between the rows ``lines``."""
    empty = sorted(set(range(lines[0], lines[-1])) - set(lines))
    if empty:
        shown = ", ".join(map(str, empty[:_SHOWN])) + (" …" if len(empty) > _SHOWN else "")
        said = "1 empty row between others is" if len(empty) == 1 else f"{len(empty)} empty rows between others are"
        yield f"{name}: {said} ignored ({'row' if len(empty) == 1 else 'rows'} {shown})"


def _merged(name: str, ranges: Sequence[str]) -> Iterator[str]:
    """A sentence about the merged cells ``ranges``, each of whose rows has their text."""
    if ranges:
        shown = ", ".join(ranges[:_SHOWN]) + (" …" if len(ranges) > _SHOWN else "")
        count = "1 merged cell is" if len(ranges) == 1 else f"{len(ranges)} merged cells are"
        yield f"{name}: {count} read in each of their rows ({shown})"


def letter(number: int) -> str:
    """The letters of a column, counted from 0: A … Z, AA, AB …"""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _repeated(table: Table, header: Sequence[str]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for number, column in enumerate(header):
        if column in first:
            also = _cell(table, table.line, first[column])
            yield Mistake(_cell(table, table.line, number), f"duplicate column {column!r}", found=f"also {also}")
        if column.strip():
            first.setdefault(column, number)


def _unnamed(table: Table, header: Sequence[str], below: Sequence[tuple[int, Sequence[str]]]) -> Iterator[Mistake]:
    """One mistake for each column that has cells and no name, at its header; it names the first cell."""
    unnamed: dict[int, int] = {}
    for line, cells in below:
        for number, cell in enumerate(cells):
            if cell.strip() and (number >= len(header) or not header[number].strip()):
                unnamed.setdefault(number, line)
    hint = second_header(header, below[0][1], f"row {below[0][0]}") if unnamed else None
    for number, line in sorted(unnamed.items()):
        what, found = f"column {letter(number)} has no name", f"cells below it, the first at {_cell(table, line, number)}"
        yield Mistake(_cell(table, table.line, number), what, expected="a name in every header cell", found=found, hint=hint)


def _cell(table: Table, line: int, number: int) -> str:
    return f"{table.place(line).rpartition('!')[0]}!{letter(number)}{line}"
