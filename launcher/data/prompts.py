"""Prompts: user messages from a file, for a model to answer; by a run's mapping, and without the columns of its answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, Mistake
from ..experiment.schema import Experiment
from .cells import check_rows
from .csv_table import csv_table
from .findings import Findings
from .mapping import Columns, columns_from, missing_columns
from .prompt import Prompt
from .table import place_of

_EXPECTED = "CSV (.csv), one JSON object a line (.jsonl), or one prompt a line (.txt)"


@dataclass(frozen=True)
class Prompts:
    """``messages``: (line of the file, user message), in the file's order; ``sha256``: of the file's bytes."""

    name: str
    sha256: str
    messages: tuple[tuple[int, str], ...]


def read_prompts(file: Path, experiment: Experiment, prompt: Prompt) -> Prompts:
    """The user messages of ``file``: its input columns in ``prompt``'s template, or each text in its one placeholder.

    A CSV file and JSON objects have the input columns of the experiment's mapping; an object may have ``prompt`` alone.
    A text file has one prompt a line. Raises DataError with all mistakes at once.
    """
    mapping, mistakes = Columns(columns_from(experiment, ()).inputs, {}, None), list[Mistake]()
    kind = file.suffix.lower()
    if kind not in (".csv", ".jsonl", ".txt"):
        raise DataError(Mistake(str(file), "unknown kind of file", expected=_EXPECTED))
    data = _bytes(file)
    if kind == ".csv":
        found = list(_of_table(str(file), data, experiment, mapping, prompt, mistakes))
    else:
        found = list(_of_lines(str(file), data, mapping if kind == ".jsonl" else None, prompt, mistakes))
    if not found and not mistakes:
        mistakes.append(Mistake(str(file), "no prompts", expected="at least one"))
    if mistakes:
        raise DataError(mistakes)
    return Prompts(str(file), hashlib.sha256(data).hexdigest(), tuple(found))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        reason = "file not found" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise DataError(Mistake(str(file), reason, expected=_EXPECTED)) from error


def _of_table(
    name: str, data: bytes, experiment: Experiment, mapping: Columns, prompt: Prompt, mistakes: list[Mistake]
) -> Iterator[tuple[int, str]]:
    table = csv_table(name, data, mistakes)
    if table is None:
        return
    mistakes += missing_columns(table, mapping, experiment)
    check_rows(table, mapping, findings := Findings(experiment.data_checks))
    mistakes += findings.taken()
    if not mistakes:
        for row in table.rows:
            yield row.line, _filled(row.cells, mapping, prompt)


def _of_lines(
    name: str, data: bytes, mapping: Columns | None, prompt: Prompt, mistakes: list[Mistake]
) -> Iterator[tuple[int, str]]:
    """``mapping``: that of JSON objects; None where every line is a prompt."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mistakes.append(Mistake(name, "not text in UTF-8", found=f"byte 0x{data[error.start]:02x} at {error.start}"))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        message = prompt.message(line.strip()) if mapping is None else _of_object(place_of(name, number), line, mapping, prompt)
        if isinstance(message, Mistake):
            mistakes.append(message)
        else:
            yield number, message


def _of_object(where: str, line: str, mapping: Columns, prompt: Prompt) -> str | Mistake:
    names = list(mapping.inputs.values())
    expected = f"an object with {', '.join(names)}" + ("" if names == ["prompt"] else ", or with prompt")
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        return Mistake(where, "not JSON", expected, str(error))
    if not isinstance(found, dict):
        return Mistake(where, "not a JSON object", expected, line.strip()[:60])
    texts = {name for name, value in found.items() if isinstance(value, str) and value.strip()}
    if texts.issuperset(names):
        return _filled(found, mapping, prompt)
    if "prompt" in texts:
        return prompt.message(found["prompt"])
    return Mistake(where, "no prompt in this object", expected, ", ".join(found) or "an empty object")


def _filled(cells: Mapping[str, str], mapping: Columns, prompt: Prompt) -> str:
    return prompt.fill({placeholder: cells[column] for placeholder, column in mapping.inputs.items()})
