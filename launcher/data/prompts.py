"""User messages from a file, for a model to answer: with a run's mapping, but without columns of answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError, Mistake
from ..experiment.schema import Experiment
from .checks.cells import check_rows
from .checks.chats import chat_of, read_prompt, with_system
from .columns.inner import with_inner, with_inner_values
from .columns.known_names import CONVERSATIONS, TOOLS
from .columns.mapping import Columns, missing_columns, prompt_columns
from .findings import Findings
from .prompt import Prompt
from .tables.csv_table import csv_table
from .tables.formats import text_of
from .tables.table import place_of
from .text.chat import Messages, is_text, written
from .text.messages import Unreadable, read_tools

_EXPECTED = "CSV (.csv), one JSON object a line (.jsonl), or one prompt a line (.txt)"


@dataclass(frozen=True)
class Prompts:
    """``messages``: (line of the file, user message), in the file's order; ``sha256``: of the file's bytes. ``chats``: line ->
    {"messages", "tools"} of a prompt that is a conversation, which ``messages`` has as a person reads it.
    """

    name: str
    sha256: str
    messages: tuple[tuple[int, str], ...]
    chats: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """One prompt: a text, or messages with the tools that an answer may call."""

    text: str
    messages: Messages = ()
    tools: tuple[Mapping[str, Any], ...] | None = None

    @classmethod
    def of(cls, messages: Messages, tools: tuple[Mapping[str, Any], ...] | None) -> _Asked:
        text = written(messages, "user")
        return cls(text) if is_text(messages, "user") and not tools else cls(text, messages, tools)


def read_prompts(file: Path, experiment: Experiment, prompt: Prompt) -> Prompts:
    """The user messages of ``file``: its input columns in ``prompt``'s template, or each text in its one placeholder.

    A CSV file and JSON objects have the input columns of the experiment's mapping; an object may have ``prompt`` alone. A prompt
    may be a list of messages, also in a column ``messages`` or ``conversations``, with tools in ``tools``. A text file has one
    prompt a line. Raises DataError with all mistakes at once.
    """
    mapping, mistakes = prompt_columns(experiment), list[Mistake]()
    mapping = replace(mapping, optional=prompt.optional(mapping))
    kind = file.suffix.lower()
    if kind not in (".csv", ".jsonl", ".txt"):
        raise DataError(Mistake(str(file), "unknown kind of file", expected=_EXPECTED))
    data = _bytes(file)
    if kind == ".csv":
        found = list(_of_table(str(file), data, experiment, prompt, mistakes))
    else:
        found = list(_of_lines(str(file), data, mapping if kind == ".jsonl" else None, prompt, mistakes))
    if not found and not mistakes:
        mistakes.append(Mistake(str(file), "no prompts", expected="at least one"))
    if mistakes:
        raise DataError(mistakes)
    texts = tuple((line, one.text) for line, one in found)
    chats = {line: {"messages": one.messages, "tools": one.tools} for line, one in found if one.messages}
    return Prompts(str(file), hashlib.sha256(data).hexdigest(), texts, chats)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        reason = "file not found" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise DataError(Mistake(str(file), reason, expected=_EXPECTED)) from error


def _of_table(
    name: str, data: bytes, experiment: Experiment, prompt: Prompt, mistakes: list[Mistake]
) -> Iterator[tuple[int, _Asked]]:
    table = csv_table(name, data, mistakes)
    if table is None:
        return
    table = with_inner(table, prompt_columns(experiment).inputs.values(), mistakes)
    mapping = prompt_columns(experiment, table)
    mapping = replace(mapping, optional=prompt.optional(mapping))
    mistakes += missing_columns(table, mapping, experiment)
    check_rows(table, mapping, findings := Findings(experiment.data_checks))
    mistakes += findings.taken()
    if mistakes:
        return
    for row in table.rows:
        chat = chat_of(table, row, mapping) if mapping.has_chats else None
        if chat is not None:
            asked = chat.prompt or ({"role": "user", "content": _filled(row.cells, mapping, prompt)},)
            yield row.line, _Asked.of(with_system(asked, row.cells, mapping), chat.tools)
        else:
            yield row.line, _Asked(_filled(row.cells, mapping, prompt))


def _of_lines(
    name: str, data: bytes, mapping: Columns | None, prompt: Prompt, mistakes: list[Mistake]
) -> Iterator[tuple[int, _Asked]]:
    """``mapping``: that of JSON objects; None if every line is a prompt."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mistakes.append(Mistake(name, "not text in UTF-8", found=f"byte 0x{data[error.start]:02x} at {error.start}"))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if mapping is None:
            yield number, _Asked(prompt.message(line.strip()))
            continue
        asked = _of_object(place_of(name, number), line, mapping, prompt)
        if isinstance(asked, Mistake):
            mistakes.append(asked)
        else:
            yield number, asked


def _of_object(where: str, line: str, mapping: Columns, prompt: Prompt) -> _Asked | Mistake:
    names = [name for name in mapping.inputs.values() if name not in mapping.optional]
    expected = f"an object with {', '.join(names)}" + ("" if names == ["prompt"] else ", or with prompt")
    expected += ", or with messages"
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        return Mistake(where, "not JSON", expected, str(error))
    if not isinstance(found, dict):
        return Mistake(where, "not a JSON object", expected, line.strip()[:60])
    found = with_inner_values(found, mapping.inputs.values())
    chat = _of_messages(where, found, mapping)
    if chat is not None:
        return chat
    texts = {name for name, value in found.items() if isinstance(value, str) and value.strip()}
    if texts.issuperset(names) or "prompt" in texts:
        text = _filled(found, mapping, prompt) if texts.issuperset(names) else prompt.message(found["prompt"])
        return _Asked.of(with_system(({"role": "user", "content": text},), found, mapping), None)
    return Mistake(where, "no prompt in this object", expected, ", ".join(found) or "an empty object")


def _of_messages(where: str, found: Mapping[str, Any], mapping: Columns) -> _Asked | Mistake | None:
    """The conversation of an object, None if it has a text or nothing."""
    names = dict.fromkeys([*mapping.inputs.values(), "prompt", *CONVERSATIONS])
    column = next((name for name in names if name in found), None)
    cell = text_of(found[column]) if column is not None else ""
    if column is None or not mapping.spelling.is_messages(cell):
        return None
    messages = read_prompt(where, column, cell, mapping.spelling)
    if isinstance(messages, Mistake):
        return messages
    try:
        return _Asked.of(with_system(messages, found, mapping), read_tools(text_of(found.get(TOOLS))))
    except Unreadable as wrong:
        return Mistake(f"{where}, {TOOLS}{wrong.inside}", wrong.what, wrong.expected, wrong.found, wrong.hint)


def _filled(cells: Mapping[str, Any], mapping: Columns, prompt: Prompt) -> str:
    return prompt.fill({placeholder: text_of(cells.get(column)) for placeholder, column in mapping.inputs.items()})
