"""Writes clean copies of CSV files, workbooks and JSON, for rules with a single correction, and lists each change."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import DataError, Mistake, UsageError
from ..experiment.schema import Experiment
from ..experiment.sections.data_checks import DataChecks
from ..experiment.sections.data_file import ARROW, JSON, WORKBOOK, file_of, split_sheet
from ..experiment.sections.data_rules import DATA_RULES
from ..runs.run_dir import expanded
from ..runs.whole import write_whole
from .columns.inner import split
from .columns.mapping import ANSWER, columns_from
from .tables.csv_table import decoded, records_of
from .tables.formats import json_records, read_table, text_of, worksheet
from .tables.layout import laid_out, lines_above
from .tables.table import Table
from .text.faults import visible
from .text.messages import Spelling, Unreadable, loaded

_ESCAPE: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_ODD: Final = re.compile(r"[^\w.-]+")  # in the name of a file
_SPELLING: Final = Spelling()
_SETTINGS: Final = ("train_filename", "validation_filename")


@dataclass(frozen=True)
class Fixed:
    """``setting`` names the file ``source``; ``copy`` and ``changes`` are None if nothing was to change."""

    setting: str
    source: str
    copy: Path | None
    changes: Path | None
    counts: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """What was done, as a sentence."""
        if self.copy is None:
            return f"{self.source}: nothing to fix"
        number = sum(self.counts.values())
        each = ", ".join(f"{count} {rule}" for rule, count in self.counts.items())
        return f"{self.copy}: {number} {'change' if number == 1 else 'changes'} ({each}), listed in {self.changes}"

    def json(self) -> dict[str, Any]:
        paths = {"copy": self.copy, "changes": self.changes}
        return {
            "source": self.source,
            **{k: None if v is None else str(v) for k, v in paths.items()},
            "counts": dict(self.counts),
        }


def fix(experiment: Experiment, root: Path = Path()) -> list[Fixed]:
    """Writes ``NAME.fixed.csv``, of JSON ``NAME.fixed.jsonl``, and ``NAME.fixed.changes.jsonl`` beside each of the experiment's
    files that needs it; never over a file that a person wrote. A worksheet becomes a CSV file.

    Raises UsageError if the data are not files of this machine, or are Parquet or Arrow, or if a copy would replace what a
    person wrote; DataError if a file cannot be read.
    """
    path = experiment.datasets_path
    if path is None or "://" in path:
        where = "a spreadsheet" if path is None else path
        raise UsageError(f"--fix writes copies of local files; the data of this experiment are in {where}")
    folder = root / expanded(path)
    names = {setting: name for setting in _SETTINGS if (name := getattr(experiment, setting))}
    missing = [str(file) for name in names.values() if not (file := folder / file_of(name)).exists()]
    if missing:  # before anything is written
        raise DataError(Mistake(file, "file not found") for file in missing)
    return [_fixed(experiment, setting, folder, name) for setting, name in names.items()]


def _fixed(experiment: Experiment, setting: str, folder: Path, name: str) -> Fixed:
    file = folder / file_of(name)
    source, suffix = str(file), file.suffix.lower()
    if suffix in ARROW:
        raise UsageError(f"--fix works for CSV files, workbooks and JSON, not for {source}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(Mistake(source, f"cannot read the file: {(error.strerror or str(error)).lower()}")) from error
    changes: list[dict[str, Any]] = []
    make = _clean_json if suffix in JSON else _clean_table
    clean = make(experiment, folder / name, data, changes).encode("utf-8")
    counts = Counter(str(change["rule"]) for change in changes)
    if not changes:
        return Fixed(setting, source, None, None, counts)
    kind = ".fixed.jsonl" if suffix in JSON else ".fixed.csv"
    copy, listed = (file.with_name(f"{_stem(name)}{ending}") for ending in (kind, ".fixed.changes.jsonl"))
    head = {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "copy": hashlib.sha256(clean).hexdigest()}
    _check_own(copy, listed, clean)
    write_whole(copy, clean)
    write_whole(listed, _lines((head, *changes)))
    return Fixed(setting, source, copy, listed, counts)


def _lines(those: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in those)


def _check_own(copy: Path, listed: Path, clean: bytes) -> None:
    """Raises UsageError if ``copy`` exists and is not as an earlier --fix has left it, by its list of changes."""
    if not copy.exists() or (there := copy.read_bytes()) == clean:
        return
    try:
        with listed.open(encoding="utf-8") as lines:
            left = json.loads(next(lines))["copy"]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        left = None
    if left != hashlib.sha256(there).hexdigest():
        raise UsageError(f"{copy} exists and was not written by --fix, or was changed; rename or remove it, then retry")


def _stem(name: str) -> str:
    """The name without its ending; a worksheet's title belongs to it: ``pairs-Train``."""
    file, sheet = split_sheet(name)
    stem = Path(file).stem.removesuffix(".fixed")
    return stem if sheet is None else f"{stem}-{_ODD.sub('-', sheet)}"


def _clean_json(experiment: Experiment, path: Path, data: bytes, changes: list[dict[str, Any]]) -> str:
    """The clean copy of JSON or JSON lines, an object a line; what was changed is added to ``changes``."""
    mistakes: list[Mistake] = []
    table = read_table(str(path), path, mistakes)
    if table is None:
        raise DataError(mistakes)
    columns, checks = _mapped(experiment, table), experiment.data_checks
    kept: list[dict[str, Any]] = []
    seen: set[str] = set()
    for line, record in json_records(str(path), data, mistakes):
        row = {name: _value(line, name, one, checks, changes) if name in columns else one for name, one in record.items()}
        rule, whole = None, json.dumps(row, ensure_ascii=False, sort_keys=True)
        if not any(text_of(one).strip() for one in row.values()):
            rule = "empty_row"
        elif whole in seen:
            rule = "repeated_pair"
        if rule is not None and checks.action(rule) != "off":
            changes.append({"line": line, "rule": rule, "before": row})
            continue
        seen.add(whole)
        kept.append(row)
    return _lines(kept)


def _mapped(experiment: Experiment, table: Table | None) -> set[str]:
    """The text columns that the experiment reads."""
    mapping = columns_from(experiment, table)
    present = () if table is None else table.columns
    return {split(name, present)[0] for name in mapping.read if name != mapping.tools}


def _value(line: int, name: str, value: Any, checks: DataChecks, changes: list[dict[str, Any]]) -> Any:
    """A text of one record, or the texts inside its messages, mended."""
    for rule, mend in _MENDS:
        better = _within(value, mend) if isinstance(value, str) else _of_texts(value, mend)
        if better != value and checks.action(rule) != "off":
            changes.append({"line": line, "column": name, "rule": rule, "before": value, "after": better})
            value = better
    return value


def _clean_table(experiment: Experiment, path: Path, data: bytes, changes: list[dict[str, Any]]) -> str:
    """The clean copy of a CSV file or of a worksheet; what was changed is added to ``changes``."""
    mapped = {*_mapped(experiment, None), *([ANSWER] if experiment.is_sft else [])}
    rows = _mended(str(path), data, frozenset(mapped), experiment.data_checks, changes)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _records(source: str, data: bytes) -> tuple[str, list[tuple[int, list[str]]]]:
    """The delimiter, and (line or row, cells) of what is not empty; raises DataError for what cannot be read."""
    mistakes: list[Mistake] = []
    file, sheet = split_sheet(source)
    delimiter, records = ",", []
    if Path(file).suffix.lower() in WORKBOOK:
        found = worksheet(file, sheet, data, mistakes)
        rows = enumerate(() if found is None else found.values, 1)
        records = [(row, list(cells)) for row, cells in rows if any(cell.strip() for cell in cells)]
    else:
        text = decoded(source, data)
        if isinstance(text, Mistake):
            mistakes.append(text)
        else:
            delimiter, records = records_of(source, text, mistakes)
    if mistakes:
        raise DataError(mistakes)
    if not records:
        raise DataError(Mistake(source, "the file is empty", expected="a header line and rows below it"))
    return delimiter, records


def _mended(
    source: str, data: bytes, columns: frozenset[str], checks: DataChecks, changes: list[dict[str, Any]]
) -> list[Sequence[str]]:
    """The records of the clean copy; what was changed is added to ``changes``."""
    delimiter, records = _records(source, data)
    above = lines_above(records)
    for line, cells in records[:above]:
        changes.append({"line": line, "rule": "title_above_header", "before": delimiter.join(cells).rstrip(delimiter)})
    records = records[above:]
    header = [visible(name) for name in records[0][1]]
    layout = laid_out(source, header, records[1:])
    changes += [{"line": records[0][0], "rule": "ignored", "before": said.removeprefix(f"{source}: ")} for said in layout.ignored]
    names = [header[place] for place in layout.kept]
    kept: list[Sequence[str]] = [names]
    seen: set[tuple[str, ...]] = set()
    for line, cells in layout.records:
        if len(cells) != len(header):
            kept.append(cells)  # no right mend: the next check names the line
            continue
        row = tuple(_cells(line, names, [cells[place] for place in layout.kept], columns, checks, changes))
        rule = _superfluous(row, names, seen)
        if rule is not None and checks.action(rule) != "off":
            changes.append({"line": line, "rule": rule, "before": list(row)})
            continue
        seen.add(row)
        kept.append(row)
    return kept


def _superfluous(row: tuple[str, ...], names: Sequence[str], seen: set[tuple[str, ...]]) -> str | None:
    """The rule that drops a whole row."""
    if not any(cell.strip() for cell in row):
        return "empty_row"
    if len(names) > 1 and [cell.strip().casefold() for cell in row] == [name.strip().casefold() for name in names]:
        return "repeated_header"
    return "repeated_pair" if row in seen else None


def _cells(
    line: int,
    names: Sequence[str],
    cells: Sequence[str],
    columns: frozenset[str],
    checks: DataChecks,
    changes: list[dict[str, Any]],
) -> Iterator[str]:
    """The cells of one row, with those of the mapped ``columns`` mended."""
    for name, cell in zip(names, cells, strict=True):
        for rule, mend in _MENDS if name in columns else ():
            better = _within(cell, mend)
            if better != cell and checks.action(rule) != "off":
                changes.append({"line": line, "column": name, "rule": rule, "before": cell, "after": better})
                cell = better
        yield cell


def _within(cell: str, mend: Callable[[str], str]) -> str:
    """``cell`` mended; of a list of messages its texts, because a mended list need not be JSON."""
    if cell.lstrip()[:1] not in ("[", "{") or not _SPELLING.is_messages(cell):
        return mend(cell)
    try:
        found = loaded(cell)
    except Unreadable:
        return cell  # no right mend: the next check names the cell
    better = _of_texts(found, mend)
    return cell if better == found else json.dumps(better, ensure_ascii=False)


def _of_texts(value: Any, mend: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, dict):
        return {key: _of_texts(one, mend) for key, one in value.items()}
    return [_of_texts(one, mend) for one in value] if isinstance(value, list) else value


def _decoded(cell: str) -> str:
    if cell.isascii():
        return cell
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    better = fix_encoding(cell) if is_bad(cell) else cell
    return cell if is_bad(better) else better


def _unescaped(cell: str) -> str:
    """``cell`` with the line ends, tabs and printable characters that Excel has escaped."""

    def character(found: re.Match[str]) -> str:
        there = chr(int(found[1], 16))
        return there if there in "\r\n\t" or there.isprintable() else found[0]

    return _ESCAPE.sub(character, cell) if "_x" in cell else cell


# In this order: what is decoded or unescaped may be a line end or a byte order mark.
_MENDS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("mojibake", _decoded),
    ("excel_escapes", _unescaped),
    ("carriage_return", lambda cell: re.sub(r"\r\n?", "\n", cell) if "\r" in cell else cell),
    ("bom_inside", lambda cell: cell.replace("\ufeff", "")),
    ("zero_width", lambda cell: re.sub("[\u200b\u2060\u180e]", "", cell) if not cell.isascii() else cell),
)
assert all(rule in DATA_RULES for rule, _ in _MENDS)
