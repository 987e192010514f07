"""A table of text, whatever it was read from: rows that know their place, and places as a person finds them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from ...experiment.sections.data_file import ARROW, split_sheet
from .sheets.spreadsheet import Spreadsheet

_WORKSHEET: Final = "worksheet "


@dataclass(frozen=True)
class Row:
    """One record: ``line`` is where it begins, the line of a file or the row of a worksheet (from 1); ``cells``: column -> text,
    unchanged.
    """

    line: int
    cells: Mapping[str, str]


class Joined(str):
    """The name of a table of several files. ``parts``: (lines of the files before it, its name) of each file, in their order."""

    parts: tuple[tuple[int, str], ...]

    def __new__(cls, name: str, parts: Sequence[tuple[int, str]]) -> Joined:
        made = super().__new__(cls, name)
        made.parts = tuple(parts)
        return made

    def __reduce__(self) -> tuple[type[Joined], tuple[str, Sequence[tuple[int, str]]]]:
        return Joined, (str(self), self.parts)

    def part(self, line: int) -> tuple[str, int]:
        """The file with the row ``line`` of the table, and the row's line in it."""
        before, name = self.parts[max(0, bisect_left(self.parts, line, key=lambda part: part[0]) - 1)]
        return name, line - before


@dataclass(frozen=True)
class Table:
    """Rows under a header: ``name`` is a file's path below the data root or a worksheet's name, ``sha256`` is that of the file's
    bytes or the worksheet's cells, ``line`` is the header's. ``letters``: column -> letter, in a worksheet.
    ``rows``: a tuple, or ``Streamed`` where they are too large for memory. ``ignored``: sentences about what was left out, such
    as empty rows at the end. ``hub``: of a dataset on the hub its name, its commit (``revision``), config and split.
    ``made``: columns that the source lacks, and ``left_out``: how many of its rows are left out, see ``judged.judged``.
    ``inner``: columns that reach into objects -> the column of these.
    ``elsewhere``: column -> line of a row -> the line where its cell was, if that is another one.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    sha256: str
    line: int = 1
    letters: Mapping[str, str] | None = None
    ignored: tuple[str, ...] = ()
    hub: Mapping[str, str | None] | None = None
    made: tuple[str, ...] = ()
    left_out: int = 0
    inner: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def place(self, line: int, column: str | None = None) -> str:
        """Where a mistake is: ``file:line``, or a range for Sheets' name box such as ``Train!C7`` or ``Train!7:7``."""
        letter = (self.letters or {}).get(column or "")
        line = self.elsewhere.get(column or "", {}).get(line, line)
        return place_of(self.name, line) if letter is None else f"{place_of(self.name, line).rpartition('!')[0]}!{letter}{line}"

    @cached_property
    def has_types(self) -> bool:
        """Whether it is of Arrow or Parquet: a struct has all keys of its column there, those that it lacks as nulls."""
        names = [part for _, part in self.name.parts] if isinstance(self.name, Joined) else [self.name]
        return all(name.lower().endswith(ARROW) for name in names)

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
    if isinstance(name, Joined):
        name, line = name.part(line)
    if name.startswith(_WORKSHEET):
        return f"{name.removeprefix(_WORKSHEET)}!{line}:{line}"
    if split_sheet(name)[1] is not None:
        return f"{name}!{line}:{line}"
    return f"{name}, row {line}" if name.lower().endswith(ARROW) else f"{name}:{line}"
