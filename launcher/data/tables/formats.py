"""A file -> a table, by the ending of its name: CSV, JSON, Parquet and Arrow, workbooks."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from ...errors import Mistake, nearest
from ...experiment.sections.data_file import ARROW, JSON, WORKBOOK, split_sheet
from .csv_table import csv_table
from .sheet_table import letter, sheet_table
from .sheets.spreadsheet import Worksheet
from .surrogates import HALF, half_in, may_have_halves
from .table import Row, Table

_MANY: Final = 20  # mistakes of one file
_AROUND: Final = ("data", "dataset", "rows", "records", "examples", "items", "samples", "instances", "train")


def read_table(name: str, path: Path, mistakes: list[Mistake], *, is_of_many: bool = False) -> Table | None:
    """The table of the file ``path``, which mistakes call ``name``, or None with its mistakes added to ``mistakes``.

    The suffix of ``name`` decides the format, CSV if unknown. ``is_of_many``: it is a part of a table that is too
    large for memory. Raises OSError if the file cannot be read, and
    LauncherError if the package that reads the format is not installed.
    """
    file, sheet = split_sheet(name)
    suffix = "." + file.rpartition(".")[2].lower()
    if suffix in ARROW:
        from .arrow_table import arrow_table

        return arrow_table(name, path, mistakes, is_of_many=is_of_many)
    data = path.read_bytes()
    if suffix in WORKBOOK:
        return _workbook(file, sheet, data, mistakes)
    if suffix in JSON:
        return _of_records(name, data, json_records(name, data, mistakes), mistakes)
    return csv_table(name, data, mistakes)


def text_of(value: Any) -> str:
    """A value as the text of a cell: a missing one is empty; lists and mappings are JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a workbook's numbers are all floats, and so are a column's with missing ones
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _of_records(
    name: str, data: bytes, records: Iterable[tuple[int, Mapping[str, Any]]], mistakes: list[Mistake]
) -> Table | None:
    """The table of (line or row, column -> value); a column that a record lacks is an empty cell."""
    before = len(mistakes)
    found = list(records)
    if len(mistakes) > before:
        return None
    if not found:
        mistakes.append(Mistake(name, "the file is empty", expected="at least one record"))
        return None
    columns = tuple(dict.fromkeys(column for _, record in found for column in record))
    rows = tuple(Row(line, {column: text_of(record.get(column)) for column in columns}) for line, record in found)
    return Table(name, columns, rows, hashlib.sha256(data).hexdigest(), found[0][0])


def json_records(name: str, data: bytes, mistakes: list[Mistake]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line, object) of each record of a JSON file or of JSON lines; what is none is added to ``mistakes``."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        mistakes.append(Mistake(f"{name}:{line}", "the file is not UTF-8", "UTF-8", f"byte 0x{data[error.start]:02x}"))
        return
    read, is_whole = _lines, name.lower().endswith(".json")
    if is_whole and text.lstrip()[:1] == "[":
        read = _elements
    elif is_whole and text.lstrip()[:1] == "{" and (found := _first_object(text)) is not None:
        start = _list_inside(found)
        if start is None and _are_columns(list(found.values())):
            hint = "write rows: frame.to_json(FILE, orient='records', lines=True)"
            mistakes.append(Mistake(name, "an object for each column, as pandas writes them, and no rows", hint=hint))
            return
        read = _lines if start is None else partial(_elements, start=start)
    may_have = may_have_halves(text)
    for line, value in read(name, text, mistakes):
        if len(mistakes) >= _MANY:
            return
        if may_have and (half := half_in(value)) is not None:
            mistakes.append(Mistake(f"{name}:{line}", HALF, "both halves, or none", half))
        elif isinstance(value, dict):
            yield line, value
        else:
            mistakes.append(Mistake(f"{name}:{line}", "not an object", 'an object such as {"prompt": …}', type(value).__name__))


def _lines(name: str, text: str, mistakes: list[Mistake]) -> Iterator[tuple[int, Any]]:
    """A value a line, or one value after another."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                mistakes.append(_not_json(name, number, error))
                if len(mistakes) >= _MANY:
                    return


def _first_object(text: str) -> dict[str, tuple[int, Any]] | None:
    """key -> (place, value) of the object that all of ``text`` is; None of another text."""
    decoder, found, place = json.JSONDecoder(), dict[str, tuple[int, Any]](), text.index("{")
    try:
        while text[place] != "}":
            key, place = decoder.raw_decode(text, _skip(text, place + 1))
            start = _skip(text, _skip(text, place) + 1)  # behind the colon
            value, place = decoder.raw_decode(text, start)
            found[str(key)] = start, value
            place = _skip(text, place)
    except (ValueError, IndexError, RecursionError):
        return None
    return None if text[place + 1 :].strip() else found


def _list_inside(found: Mapping[str, tuple[int, Any]]) -> int | None:
    """The place of the list of records in an object around it, such as {"data": […]}."""
    lists = [
        place
        for key, (place, value) in found.items()
        if (len(found) == 1 or key.lower() in _AROUND) and isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    return lists[0] if len(lists) == 1 else None


def _are_columns(found: Sequence[tuple[int, Any]]) -> bool:
    """Whether they are columns, each an object with the same numbers: {"prompt": {"0": …, "1": …}, …}."""
    columns = [value for _, value in found]
    if len(columns) < 2 or not all(isinstance(value, dict) and value for value in columns):
        return False
    return all(value.keys() == columns[0].keys() for value in columns) and all(key.isdigit() for key in columns[0])


def _elements(name: str, text: str, mistakes: list[Mistake], start: int | None = None) -> Iterator[tuple[int, Any]]:
    """The elements of a list, with the line on which each begins; ``start``: the place of a list inside an object."""
    decoder, line, end = json.JSONDecoder(object_pairs_hook=_once), 1, 0
    place = _skip(text, (text.index("[") if start is None else start) + 1)
    if text[place : place + 1] == "]":
        return
    while True:
        line, end = line + text.count("\n", end, place), place
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            mistakes.append(_not_json(name, line, error))
            return
        yield line, value
        place = _skip(text, place)
        if text[place : place + 1] != ",":
            break
        place = _skip(text, place + 1)
    rest = text[place:].strip()
    if rest != "]" and (start is None or rest[:1] != "]"):
        line += text.count("\n", end, place)
        mistakes.append(Mistake(f"{name}:{line}", "the list does not end here", "',' or ']'", rest[:20] or "the end of the file"))


def _skip(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object; raises ValueError if it names a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is there twice")
    return found


def _not_json(name: str, line: int, error: Exception) -> Mistake:
    if isinstance(error, json.JSONDecodeError):
        return Mistake(f"{name}:{line}:{error.colno}", f"not JSON: {error.msg[0].lower()}{error.msg[1:]}")
    return Mistake(f"{name}:{line}", f"not JSON: {error}")


def worksheet(file: str, sheet: str | None, data: bytes, mistakes: list[Mistake]) -> Worksheet | None:
    """A worksheet of the workbook ``data`` (None: its only one), or None with a mistake added to ``mistakes``."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        titles = book.sheet_names
        if sheet is not None and sheet not in titles:
            mistakes.append(Mistake(file, f"no worksheet {sheet!r}", found=", ".join(titles), hint=nearest(sheet, titles)))
            return None
        if sheet is None and len(titles) > 1:
            hint = f"name one of them: {file.rpartition('/')[2]}#{titles[0]}"
            mistakes.append(Mistake(file, f"{len(titles)} worksheets", "one worksheet", ", ".join(titles), hint))
            return None
        opened = book.get_sheet_by_name(sheet or titles[0])
        values, merged = opened.to_python(skip_empty_area=False), opened.merged_cell_ranges or []
    except PasswordError:
        mistakes.append(Mistake(file, "the workbook has a password", hint="save it without one"))
        return None
    except (CalamineError, OSError) as error:
        mistakes.append(Mistake(file, "not a workbook", found=str(error)[:200]))
        return None
    cells = [[text_of(value) for value in row] for row in values]
    filled = tuple(_fill(cells, sorted(merged)))
    return Worksheet("file", sheet or titles[0], tuple(map(tuple, cells)), filled)


def _fill(cells: list[list[str]], merged: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> Iterator[str]:
    """Writes the text of merged cells below the header into each of their rows; their ranges, such as A2:A3."""
    header = next((place for place, row in enumerate(cells) if any(cell.strip() for cell in row)), 0)
    for (top, column), (bottom, _) in merged:
        text = cells[top][column] if header < top < bottom < len(cells) and column < len(cells[top]) else ""
        if not text.strip():
            continue
        for row in cells[top + 1 : bottom + 1]:
            row[column] = text
        yield f"{letter(column)}{top + 1}:{letter(column)}{bottom + 1}"


def _workbook(file: str, sheet: str | None, data: bytes, mistakes: list[Mistake]) -> Table | None:
    there = worksheet(file, sheet, data, mistakes)
    if there is None:
        return None
    table = sheet_table(there, mistakes, name=f"{file}#{there.title}")
    return None if table is None else replace(table, sha256=hashlib.sha256(data).hexdigest())
