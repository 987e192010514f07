"""Checks the rows of a table: the cells of mapped columns, alone and together."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import Mistake
from ...experiment.sections.data_checks import DataChecks
from ..columns.mapping import Columns, answer_of, columns_of
from ..columns.rated_rows import MERGED
from ..findings import Findings
from ..tables.progress import watched
from ..tables.table import Row, Table
from ..text.chat import Chat
from ..text.faults import faults, is_blank, normal, visible
from .chats import check_chat


def check_rows(table: Table, mapping: Columns, findings: Findings) -> Sequence[Chat]:
    """Adds what the rules find in the mapped cells to ``findings``; a column that ``table`` lacks has no cells.

    Returns the messages of every row, where there are no mistakes and the rows are in memory.
    What is read as messages has no rule that leaves it unread: it is a mistake also in a row that is only a header or empty.
    """
    columns = [column for column in mapping.columns if column in table.columns]
    answers = {*columns_of(mapping.chosen), *columns_of(mapping.rejected)}
    can_compare = mapping.rejected is not None and answers.issubset(columns) and mapping.chosen != mapping.rejected
    texts = [column for column in columns if column not in mapping.messages]
    own = [mapping.system] if mapping.system in table.columns and mapping.system not in columns else []
    can_chat = mapping.has_chats and not set(mapping.columns) - set(columns)
    chats: list[Chat] = []
    inputs, has_prompt = set(mapping.inputs.values()), False
    for row in watched(table.rows, f"checking {table.name}", findings.tell):
        if _is_header(row, columns):
            findings.of_row("repeated_header", table, row.line)
            if not can_chat or findings.is_error("repeated_header"):
                continue
        empty = [column for column in columns if is_blank(row.cells[column])]
        if empty and not any(cell.strip() for cell in row.cells.values()):
            findings.of_row("empty_row", table, row.line)
            if not can_chat or findings.is_error("empty_row"):
                continue
        empty = _needed(empty, mapping)
        for column in empty:
            is_merged = table.letters is not None and has_prompt and column in inputs and not answers.intersection(empty)
            findings.of_cell("empty_cell", table, row.line, column, hint=MERGED if is_merged else None)
        has_prompt = has_prompt or not inputs.intersection(empty) - mapping.optional
        for column in (*texts, *own):
            check_cell(table, row, column, findings)
        if can_chat and not (empty and findings.is_error("empty_cell")):
            chat = check_chat(table, row, mapping, findings)
            if chat is not None and chat.rejected is not None:
                _compare(table, row, chat.answer(chat.chosen), chat.answer(chat.rejected), findings)
            if chat is not None and isinstance(table.rows, tuple):
                chats.append(chat)
        elif can_compare and not can_chat and not answers.intersection(empty):
            assert mapping.rejected is not None, "two answers are compared"
            _compare(table, row, answer_of(row, mapping.chosen), answer_of(row, mapping.rejected), findings)
    return chats


def _needed(empty: Sequence[str], mapping: Columns) -> list[str]:
    """Those of the ``empty`` columns that need a value; of optional ones the first, where the prompt would have no text."""
    found = [column for column in empty if column not in mapping.optional]
    inputs = [column for column in mapping.inputs.values() if column not in mapping.absent]
    has_no_text = bool(inputs) and set(inputs) <= set(empty) and not set(inputs) & set(found)
    return [inputs[0], *found] if has_no_text else found


def check_cell(table: Table, row: Row, column: str, findings: Findings) -> None:
    """Adds what the rules find in one cell that is not empty."""
    cell = row.cells[column]
    if not cell:
        return
    for rule, found in faults(cell):
        if rule != "outer_white_space" or not is_blank(cell):
            findings.of_cell(rule, table, row.line, column, found)
    if len(cell) == findings.threshold("excel_cut"):
        findings.of_cell("excel_cut", table, row.line, column)
    if len(cell) > findings.threshold("huge_cell") * 1e6:
        findings.of_cell("huge_cell", table, row.line, column, f"{len(cell) / 1e6:.1f} million characters")


def text_mistakes(table: Table, row: Row, column: str, checks: DataChecks) -> Sequence[Mistake]:
    """Errors in a cell of the prompt table; an empty cell is fine."""
    findings = Findings(checks)
    check_cell(table, row, column, findings)
    return findings.mistakes


def _is_header(row: Row, columns: list[str]) -> bool:
    """Whether the mapped cells repeat their columns' names: files were concatenated."""
    return len(columns) > 1 and all(_named(row.cells[column]) == _named(column) for column in columns)


def _named(cell: str) -> str:
    """A column's name without case and outer blanks."""
    return visible(cell).strip().casefold()


def _compare(table: Table, row: Row, chosen: str, rejected: str, findings: Findings) -> None:
    if chosen == rejected or normal(chosen) == normal(rejected):
        findings.of_row("equal_answers", table, row.line)
    elif visible(chosen).split() == visible(rejected).split():
        findings.of_row("nearly_equal_answers", table, row.line)
