"""Judged: a table of compared answers with two more columns, the better and the worse answer of each row, as its verdict says.

Where each row has one rated answer, those to a prompt are compared. Rows without a verdict are left out, with a sentence. What
reads the table sees two columns of answers like any others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Final

from ...errors import Mistake
from ...experiment.sections.data_rules import DATA_RULES
from ...experiment.text.flow import flow
from ..findings import SHOWN, places
from ..tables.formats import text_of
from ..tables.progress import Rows, nothing, watched
from ..tables.streamed import Streamed
from ..tables.table import Row, Table
from ..text.messages import Unreadable, loaded, shown
from .rated_rows import best_and_worst, prompts_of
from .verdicts import NEITHER, TIE, UNSAID, Sides, Unusable, Verdict

_MANY: Final = 20  # mistakes of one table, and values of a winner that a mistake names
_LIST: Final = 'a list such as ["…", "…"] or [4, 5]; or name a column for each answer; or ratings, where each row has one answer'
_NUMBER: Final = re.compile(r"-?[0-9]{1,3}")
_EXPECTED: Final = "A, B, 1, 2, left, right, the name of a column, tie, or an empty cell"

Judgement = tuple[int, int] | int  # the numbers of the better and the worse answer, or why there are none


@dataclass
class _Count:
    """What one pass over the rows has counted."""

    flags: bytearray = field(default_factory=bytearray)
    judged: Counter[Judgement] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)  # the first places
    unknown: dict[str, list[int]] = field(default_factory=dict)  # a winner that names no answer -> [rows, first line]


def judged(table: Table, verdict: Verdict, mistakes: list[Mistake], tell: Rows = nothing) -> Table:
    """``table`` with the columns ``verdict.better`` and ``verdict.worse``; what is wrong is added to ``mistakes``.

    A table that lacks a column of the verdict stays as it is: ``mapping.missing_columns`` names it.
    """
    if not set(verdict.columns) <= set(table.columns):
        return table
    if _is_rated_by_row(table, verdict):
        [answers] = verdict.answers
        has_prompt = bool(prompts_of(table, verdict.inputs, answers)) or verdict.spelling.is_messages(_first(table, answers))
        return best_and_worst(table, verdict, mistakes, tell) if has_prompt else table
    judge, count, wrong = _Judge(verdict), _Count(), list[Mistake]()
    for row in watched(table.rows, f"comparing the answers of {table.name}", tell):
        found = _judgement(judge, table, row, count, wrong)
        count.flags.append(isinstance(found, tuple))
        if found is not None:
            count.judged[found] += 1
            if isinstance(found, int) and len(count.left_out) < SHOWN:
                count.left_out.append(table.place(row.line))
    kept = sum(count.flags)
    wrong += _unknown(table, verdict, count.unknown)
    if not kept and not wrong:
        what = f"no row says which answer is better ({verdict.text})"
        wrong.append(Mistake(table.name, what, found=_reasons(count)))
    mistakes += wrong[:_MANY]
    rows = _rows(table.rows, bytes(count.flags), judge.filled)
    made, said = (verdict.better, verdict.worse), _sentence(table, verdict, count)
    return replace(
        table,
        columns=(*table.columns, *made),
        rows=rows,
        ignored=(*table.ignored, said),
        made=(*table.made, *made),
        left_out=len(table.rows) - kept,
    )


def _is_rated_by_row(table: Table, verdict: Verdict) -> bool:
    """Whether a row has one rated answer, and no list of them."""
    if verdict.kind == "winner" or len(verdict.answers) > 1 or len(verdict.by) > 1:
        return False
    return _first(table, verdict.by[0]).lstrip()[:1] not in ("", "[")


def _first(table: Table, column: str) -> str:
    """The first cell that is not blank."""
    return next((row.cells[column] for row in table.rows if row.cells[column].strip()), "")


def _judgement(judge: _Judge, table: Table, row: Row, count: _Count, mistakes: list[Mistake]) -> Judgement | None:
    """None of a row that cannot be judged, which is a mistake."""
    if all(row.cells[name].strip().casefold() == name.strip().casefold() for name in judge.columns):
        rule = DATA_RULES["repeated_header"]
        mistakes.append(Mistake(table.place(row.line), rule.one, hint=rule.hint))
        return None
    try:
        found = judge.of(row)
    except Unusable as wrong:
        if len(mistakes) < _MANY:
            mistakes.append(wrong.mistake(table.place(row.line, wrong.column)))
        return None
    if isinstance(found, str):
        count.unknown.setdefault(found, [0, row.line])[0] += 1
        return None
    return found


def _rows(rows: Sequence[Row], flags: bytes, filled: Callable[[Row], Row]) -> Sequence[Row]:
    if isinstance(rows, tuple):
        return tuple(map(filled, compress(rows, flags)))
    return Streamed(sum(flags), lambda: map(filled, compress(rows, flags)))


class _Judge:
    """What ``verdict`` says of the rows of a table with ``columns``."""

    def __init__(self, verdict: Verdict):
        self._verdict = verdict
        self._sides = Sides(verdict.names, verdict.values)
        self.columns = verdict.columns

    def filled(self, row: Row) -> Row:
        """A ``row`` that was judged, with its better and its worse answer."""
        found = self.of(row)
        assert isinstance(found, tuple), "rows without a verdict are left out"
        answers = _values(row, self._verdict.answers)
        cells = {self._verdict.better: answers[found[0]], self._verdict.worse: answers[found[1]]}
        return replace(row, cells={**row.cells, **cells})

    def of(self, row: Row) -> Judgement | str:
        """The judgement of ``row``; a winner that names no answer as it is written. Raises _Wrong."""
        answers = _values(row, self._verdict.answers)
        if self._verdict.kind == "winner":
            return self._winner(row, answers)
        numbers = [self._verdict.number(column, value) for column, value in self._numbered(row, len(answers))]
        there = [one for one in numbers if one is not None]
        if len(there) < 2:
            return UNSAID
        best, worst = (max(there), min(there)) if self._verdict.kind == "ratings" else (min(there), max(there))
        return NEITHER if best == worst else (numbers.index(best), numbers.index(worst))

    def _winner(self, row: Row, answers: Sequence[str]) -> Judgement | str:
        if len(answers) != 2:
            raise Unusable(self._verdict.answers[0], "not two answers, which winner compares,", "2", f"{len(answers)}")
        cell = row.cells[self._verdict.by[0]]
        side = self._sides.of(cell)
        if side is None:
            same = [place for place, answer in enumerate(answers) if answer.strip() == cell.strip()]
            side = same[0] if len(same) == 1 else None
        if side is None:
            return cell.strip()
        return side if side < 0 else (side, 1 - side)

    def _numbered(self, row: Row, count: int) -> Sequence[tuple[str, str]]:
        """(column, number as text) for each answer."""
        by = self._verdict.by
        values = _values(row, by)
        if len(values) != count:
            what = f"another number of {self._verdict.kind} than of answers"
            raise Unusable(by[0], what, f"{count}", f"{len(values)}")
        return list(zip(by if len(by) > 1 else by * count, values, strict=True))


def _values(row: Row, names: Sequence[str]) -> list[str]:
    """The texts of several columns, or of the list in one; raises Unusable."""
    if len(names) > 1:
        return [row.cells[name] for name in names]
    [column] = names
    cell = row.cells[column]
    try:
        found = loaded(cell) if cell.strip() else []
    except Unreadable:
        found = None
    if not isinstance(found, list):
        raise Unusable(column, "no list", _LIST, shown(cell))
    return list(map(text_of, found))


def _unknown(table: Table, verdict: Verdict, unknown: dict[str, list[int]]) -> Iterator[Mistake]:
    """A mistake for each value of the winner that names no answer, with the setting that says what it means."""
    names = verdict.names
    hint = f"say what it means under dpo_column_mapping_config: winner_values: {_meant(list(unknown), names)}"
    for value, (rows, line) in unknown.items():
        of = f" ({rows} rows)" if rows > 1 else ""
        what = f"{value!r} in column {verdict.by[0]!r} names no answer{of}"
        yield Mistake(table.place(line, verdict.by[0]), what, _EXPECTED, hint=hint)


def _meant(values: Sequence[str], names: Sequence[str]) -> str:
    """An example of ``winner_values``: a scale from the first answer to the second, around 0 if it goes below; words in turn."""
    scale = {int(value) for value in values if _NUMBER.fullmatch(value)}
    numbers = sorted(scale | {0, 1} if scale == {0} else scale)
    middle = 0 if numbers and numbers[0] < 0 else None
    found = {str(one): TIE if one == middle else names[one > (numbers[0] if middle is None else 0)] for one in numbers[:7]}
    words = [value for value in values if not _NUMBER.fullmatch(value)]
    return flow({**found, **{value: names[place % 2] for place, value in enumerate(words[:4])}})


def _reasons(count: _Count) -> str:
    ties, unsaid = count.judged[NEITHER], count.judged[UNSAID]
    said = [f"{ties} {'tie' if ties == 1 else 'ties'}"] * bool(ties) + [f"{unsaid} without a verdict"] * bool(unsaid)
    return ", ".join(said)


def _sentence(table: Table, verdict: Verdict, count: _Count) -> str:
    """How often each answer is the better one, and what is left out."""
    kept, left = sum(count.flags), count.judged[NEITHER] + count.judged[UNSAID]
    if len(verdict.names) == 2:
        first, second = count.judged[0, 1], count.judged[1, 0]
        said = f"{verdict.text}: {verdict.names[0]} is better in {_rows_of(first)}, {verdict.names[1]} in {second}"
    else:
        said = f"{verdict.text}: the best answer is chosen and the worst rejected in {_rows_of(kept)}"
    if not left:
        return f"{table.name}: {said}"
    where = places(table.name, count.left_out, left)
    are = "is" if left == 1 else "are"
    return f"{table.name}: {said}; {left} of {len(table.rows)} rows {are} left out: {_reasons(count)} ({where})"


def _rows_of(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
