"""The bytes of a CSV file -> a table, and the place of every mistake that does not depend on the meaning of the columns."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ...errors import Mistake
from .layout import Record, laid_out, lines_above, second_header, separator, title_mistake
from .table import Row, Table

_END = re.compile(r"\r\n|\r|\n")
# What people take for CSV, by the first bytes of the file.
_MAGIC = {
    b"PK\x03\x04": ("an Excel workbook or a zip archive", "save the sheet as 'CSV UTF-8'"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (.xls)", "save the sheet as 'CSV UTF-8'"),
    b"PAR1": ("a Parquet file", "write it with DataFrame.to_csv(…, index=False)"),
    b"\x1f\x8b": ("a gzip archive", "unpack it first"),
}


def csv_table(name: str, data: bytes, mistakes: list[Mistake]) -> Table | None:
    """The table, or None with its mistakes added to ``mistakes``; ``name``: of the file, in mistakes."""
    text = decoded(name, data)
    if isinstance(text, Mistake):
        mistakes.append(text)
        return None
    table, wrong = _parse(name, text, hashlib.sha256(data).hexdigest())
    mistakes += wrong
    return None if wrong else table


def records_of(name: str, text: str, mistakes: list[Mistake]) -> tuple[str, list[Record]]:
    """The delimiter and the records of a CSV file, the header first; mistakes in quotes are added to ``mistakes``."""
    # The limit on a cell (128 KiB) belongs to the process. It only grows: other threads may read larger cells.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    named = separator(text)
    delimiter = named or _delimiter(text)
    return delimiter, list(_records(name, text, delimiter, mistakes))[1 if named else 0 :]


def decoded(name: str, data: bytes) -> str | Mistake:
    """The text of a CSV file, or what else the file is."""
    for magic, (found, hint) in _MAGIC.items():
        if data.startswith(magic):
            return Mistake(name, "not a CSV file", expected="CSV text in UTF-8", found=found, hint=hint)
    is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # Excel's "Unicode text"
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_wide:
            hint = "the file is damaged; save it as CSV UTF-8"
            return Mistake(
                name,
                "the file begins as UTF-16 but is not",
                "UTF-8 or UTF-16",
                f"{error.reason} at offset {error.start}",
                hint,
            )
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = len(re.findall(rb"\r\n|\r|\n", data[:start])) + 1
        return Mistake(
            f"{name}:{line}",
            "the file is not UTF-8",
            expected="UTF-8",
            found=f"byte 0x{data[start]:02x} at offset {start}",
            hint="save it as CSV UTF-8",
        )
    if "\0" in text:
        line, column = _advance(text[: text.index("\0")])
        return Mistake(
            f"{name}:{line}:{column}",
            "the file contains NUL bytes",
            expected="text",
            found=f"{text.count(chr(0))}, the first one here",
            hint="the file is damaged or not text; save it again as CSV UTF-8",
        )
    return text


def _parse(name: str, text: str, sha256: str) -> tuple[Table | None, list[Mistake]]:
    mistakes: list[Mistake] = []
    delimiter, records = records_of(name, text, mistakes)
    line, columns = records[0] if records else (0, [])
    if not columns:
        return None, mistakes or [Mistake(name, "the file is empty", expected="a header line and rows below it")]
    above = lines_above(records)
    if above:
        return None, [title_mistake(f"{name}:{line}", records, above, f"line {records[above][0]}")]
    layout = laid_out(name, columns, records[1:])
    wrong_header = list(_header_mistakes(name, text, delimiter, records[:2], layout.kept))
    rows = []
    for row_line, cells in layout.records:
        if len(cells) == 1 and len(columns) > 1 and not cells[0].strip():
            continue  # a line of blanks; in a table with one column it is a cell
        if len(cells) != len(columns):
            mistakes.append(_count_mistake(f"{name}:{row_line}", cells, len(columns), delimiter))
        rows.append(Row(row_line, {columns[place]: cells[place] for place in layout.kept if place < len(cells)}))
    if not rows and not mistakes:
        mistakes.append(Mistake(f"{name}:{line}", "no rows below the header", expected="at least one row"))
    names = tuple(columns[place] for place in layout.kept)
    return Table(name, names, tuple(rows), sha256, line, ignored=layout.ignored), wrong_header + mistakes


def _delimiter(text: str) -> str:
    """``;``, ``|`` or a tab where only that separates the names of the header, else a comma."""
    first = re.search(r"[^\r\n ]", text)
    begin = first.start() if first is not None else len(text)

    def parts(delimiter: str) -> int:
        return len(next(csv.reader(_lines(text, begin), delimiter=delimiter), ()))

    others = [delimiter for delimiter in ";\t|" if parts(delimiter) > 1]
    return others[0] if len(others) == 1 and parts(",") < 2 else ","


def _lines(text: str, begin: int = 0) -> Iterator[str]:
    """The lines of ``text`` from ``begin`` on, with their ends; a copy of the whole text would take 4 bytes a character."""
    for end in _END.finditer(text, begin):
        yield text[begin : end.end()]
        begin = end.end()
    if begin < len(text):
        yield text[begin:]


def _records(name: str, text: str, delimiter: str, mistakes: list[Mistake]) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of every record, the header first; mistakes in quotes are added to ``mistakes``."""
    lines: list[str] = []  # of all the text, where one is shown
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    has_header = False
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            lines = lines or list(_lines(text))
            mistakes.append(_quote_mistake(name, lines, line, reader.line_num, delimiter))
            if reader.line_num > line or not has_header:
                return  # a quote that ran over lines: quoted and unquoted text would be swapped from here on
            continue
        if not cells or (not has_header and len(cells) == 1 and not cells[0].strip()):
            continue
        has_header = True
        yield line, cells


def _header_mistakes(name: str, text: str, delimiter: str, head: Sequence[Record], kept: Sequence[int]) -> Iterator[Mistake]:
    """The mistakes in the names of the columns that are ``kept``; ``head``: the header and the row below it."""
    line, columns = head[0]
    counts = Counter(columns[place] for place in kept)
    if all(counts[columns[place]] == 1 and columns[place].strip() for place in kept):
        return
    lines = list(_lines(text))[line - 1 :]
    places = [start for start, _ in _cells("".join(lines), delimiter)]
    first: dict[str, int] = {}
    for number, (column, (down, across)) in enumerate(zip(columns, places, strict=False), 1):
        where = f"{name}:{line + down - 1}:{across}"
        if number - 1 not in kept:
            continue
        if not column.strip():
            hint = second_header(columns, head[1][1], f"line {head[1][0]}") if len(head) > 1 else None
            yield Mistake(where, f"column {number} has no name", expected="a name in every header cell", hint=hint)
        elif column in first:
            yield Mistake(where, f"duplicate column {column!r}", found=f"also column {first[column]}")
        first.setdefault(column, number)


def _count_mistake(where: str, cells: list[str], expected: int, delimiter: str) -> Mistake:
    hint = None
    if len(cells) > expected:
        spaced = any(re.match(r'\s+"', cell) for cell in cells)
        character = "tab" if delimiter == "\t" else f"{delimiter!r}"
        hint = "remove the space before the quote" if spaced else f"put cells that contain a {character} into double quotes"
    return Mistake(where, "wrong number of cells", f"{expected} cells", f"{len(cells)} cells", hint)


def _quote_mistake(name: str, lines: list[str], line: int, last: int, delimiter: str) -> Mistake:
    """The mistake in the quotes of the record on ``line`` … ``last``, at the quote that opens the cell."""
    cells = list(_cells("".join(lines[line - 1 : last]), delimiter))
    (down, across), closed = next((cell for cell in cells if cell[1] != "closed"), cells[-1])
    where, source = f"{name}:{line + down - 1}:{across}", lines[line + down - 2].rstrip("\r\n")
    if closed == "open":
        what, hint = "this quote is never closed", 'write "" for a quote inside a cell'
    else:
        what = "text after the closing quote of this cell"
        hint = 'write "" for a quote inside a cell, or add the missing closing quote'
    shown = len(source) <= 120
    return Mistake(where, what, hint=hint, source=source if shown else None, column=across)


def _cells(text: str, delimiter: str) -> Iterator[tuple[tuple[int, int], str]]:
    """((line, column), state) of each cell of the record at the start of ``text``, counted from 1.

    ``state`` is ``closed``, ``open`` (the text ends inside quotes) or ``broken`` (text after the closing quote).
    """
    cell = re.compile(
        rf'(?P<quoted>"[^"]*(?:""[^"]*)*(?P<end>"|\Z))?(?P<rest>[^{re.escape(delimiter)}\r\n]*)(?P<stop>.?)', re.DOTALL
    )
    line, column, position = 1, 1, 0
    while found := cell.match(text, position):
        state = "closed"
        if found["quoted"] is not None:
            state = "open" if not found["end"] else "broken" if found["rest"] else "closed"
        yield (line, column), state
        if found["stop"] != delimiter:
            return
        down, across = _advance(found[0])
        line, column = line + down - 1, across if down > 1 else column + across - 1
        position = found.end()


def _advance(text: str) -> tuple[int, int]:
    """(line, column) after ``text`` that began at line 1, column 1."""
    breaks = list(re.finditer(r"\r\n|\r|\n", text))
    return len(breaks) + 1, len(text) - (breaks[-1].end() if breaks else 0) + 1
