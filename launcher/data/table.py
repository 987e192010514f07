"""A table of text, whatever it was read from: rows that know their place, and places as a person finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..experiment.data_file import ARROW, split_sheet
from .sheets.spreadsheet import Spreadsheet

_WORKSHEET: Final = "worksheet "


@dataclass(frozen=True)
class Row:
    """One record: ``line`` is where it begins, the line of a file or the row of a worksheet (from 1); ``cells``: column -> text,
    unchanged.
    """

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """Rows under a header: ``name`` is a file's path below the data root or a worksheet's name, ``sha256`` is that of the file's
    bytes or the worksheet's cells, ``line`` is the header's. ``letters``: column -> letter, in a worksheet.
    ``ignored``: sentences about what was left out, such as empty rows at the end.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    sha256: str
    line: int = 1
    letters: Mapping[str, str] | None = None
    ignored: tuple[str, ...] = ()

    def place(self, line: int, column: str | None = None) -> str:
        """Where a mistake is: ``file:line``, or a range for Sheets' name box such as ``Train!C7`` or ``Train!7:7``."""
        letter = (self.letters or {}).get(column or "")
        return place_of(self.name, line) if letter is None else f"{place_of(self.name, line).rpartition('!')[0]}!{letter}{line}"

    @property
    def is_worksheet(self) -> bool:
        return self.name.startswith(_WORKSHEET)


@dataclass(frozen=True)
class Tables:
    """``spreadsheet``: what they were read from, where they are worksheets."""

    train: Table
    validation: Table | None
    prompts: Table | None
    spreadsheet: Spreadsheet | None = None


def worksheet_name(title: str) -> str:
    """The name of a worksheet's table; the title is quoted where a range needs quotes."""
    plain = title.isidentifier() and title.isascii()
    return _WORKSHEET + (title if plain else "'" + title.replace("'", "''") + "'")


def place_of(name: str, line: int) -> str:
    """The place of the row ``line`` of the table ``name``."""
    if name.startswith(_WORKSHEET):
        return f"{name.removeprefix(_WORKSHEET)}!{line}:{line}"
    if split_sheet(name)[1] is not None:
        return f"{name}!{line}:{line}"
    return f"{name}, row {line}" if name.lower().endswith(ARROW) else f"{name}:{line}"
