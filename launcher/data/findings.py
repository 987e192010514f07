"""Findings of the rules in tables and pairs: mistakes or notices, as the experiment's data_checks set it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import Mistake, Warned
from ..experiment.sections.data_checks import DataChecks
from ..experiment.sections.data_rules import DATA_RULES
from .tables.progress import Rows, nothing
from .tables.table import Table
from .text.messages import Unreadable

SHOWN = 3  # places of a finding


@dataclass(frozen=True)
class Found:
    """What one rule has found in one column, or in the rows, of one table: ``count`` of ``total`` cells, rows or pairs.

    ``what``: the rest of a sentence that begins with a number of them. ``places``: the first ones.
    """

    rule: str
    action: str
    table: str
    unit: str
    what: str
    count: int
    total: int
    places: tuple[str, ...]
    hint: str | None


@dataclass
class _Many:
    """All that one rule has found in one column, or in the rows, of one table."""

    total: int
    count: int = 0
    places: list[str] = field(default_factory=list)  # the first ones


class Findings:
    """Collects: errors one by one, in the order of the rows; the rest by rule, table and column, with counts and first places."""

    def __init__(self, checks: DataChecks, tell: Rows = nothing):
        """``tell`` gets the progress of a long pass over rows."""
        self._checks, self.tell = checks, tell
        self.mistakes: list[Mistake] = []
        self._many: dict[tuple[str, str, str | None], _Many] = {}

    def taken(self) -> list[Mistake]:
        """Returns the mistakes so far and forgets them."""
        found, self.mistakes = self.mistakes, []
        return found

    def wants(self, rule: str) -> bool:
        return self._checks.action(rule) != "off"

    def is_error(self, rule: str) -> bool:
        return self._checks.action(rule) == "error"

    def threshold(self, rule: str) -> float:
        return self._checks.threshold(rule)

    def of_cell(self, rule: str, table: Table, line: int, column: str, found: str | None = None, hint: str | None = None) -> None:
        """Adds a cell of ``table``; ``found``: its content; ``hint``: of a mistake, where the rule's does not fit."""
        what = f"{self._said(DATA_RULES[rule].one, rule)} in column {column!r}"
        self._add(rule, table, line, column, what, found, f"cells in column {column!r}", hint=hint)

    def of_message(self, rule: str, table: Table, line: int, column: str, place: int, found: str | None = None) -> None:
        """Adds a message from a list in a cell; ``place``: its index."""
        inside = f", {column}[{place}].content"
        self._add(rule, table, line, column, self._said(DATA_RULES[rule].one, rule), found, f"cells in column {column!r}", inside)

    def unreadable(self, table: Table, line: int, column: str, wrong: Unreadable) -> None:
        """Adds a cell that holds no list of messages, or another one than was expected."""
        place = f"{table.place(line, column)}, {column}{wrong.inside}"
        self.mistakes.append(Mistake(place, wrong.what, wrong.expected, wrong.found, wrong.hint))

    def of_row(self, rule: str, table: Table, line: int, found: str | None = None) -> None:
        """Adds a row of ``table``."""
        self._add(rule, table, line, None, self._said(DATA_RULES[rule].one, rule), found, "rows")

    def of_pair(self, rule: str, table: Table, line: int, role: str) -> None:
        """Adds a pair; ``role``: training or validation."""
        self._add(rule, table, line, None, self._said(DATA_RULES[rule].one, rule), None, f"{role} pairs")

    def of_answer(self, rule: str, table: Table, line: int, side: str) -> None:
        """Adds an answer of a pair; ``side``: chosen or rejected."""
        self._add(rule, table, line, None, f"{side}: {self._said(DATA_RULES[rule].one, rule)}", None, f"{side} answers")

    def _add(
        self,
        rule: str,
        table: Table,
        line: int,
        column: str | None,
        what: str,
        found: str | None,
        unit: str,
        inside: str = "",
        hint: str | None = None,
    ) -> None:
        action = self._checks.action(rule)
        if action == "off":
            return
        if action == "error":
            of_the_cell = "text, line breaks and tabs" if rule == "control_character" else None
            hint = hint or DATA_RULES[rule].hint
            self.mistakes.append(Mistake(table.place(line, column) + inside, what, of_the_cell, found, hint))
            return
        many = self._many.setdefault((rule, table.name, unit), _Many(len(table.rows)))
        many.count += 1
        if len(many.places) < SHOWN:
            many.places.append(table.place(line, column))

    def _said(self, text: str, rule: str) -> str:
        return text.format(threshold=self._checks.threshold(rule)) if "{" in text else text

    def found(self) -> Iterator[Found]:
        """Findings that are not errors, by rule, table and column."""
        for (rule, name, unit), many in self._many.items():
            about = DATA_RULES[rule]
            action = "notice" if about.is_mild else "warning"
            what = self._said(about.many, rule)
            yield Found(rule, action, name, unit or "", what, many.count, many.total, tuple(many.places), about.hint)

    def notices(self) -> Iterator[str]:
        """A sentence for each rule, table and column; ``Warned`` where what was found harms the result."""
        for (rule, name, unit), many in self._many.items():
            about = DATA_RULES[rule]
            where = places(name, many.places, many.count)
            sentence = f"{name}: {many.count} of {many.total} {unit} {self._said(about.many, rule)} ({where})"
            sentence += f"; {about.hint}" if about.hint else ""
            yield sentence if about.is_mild else Warned(sentence)


def places(name: str, found: list[str], count: int) -> str:
    """``line 3``, ``lines 3, 7, 9 …``, ``rows 3, 7`` of Parquet or, of a worksheet, ``C3, C7``: the first places, without the
    name of the table."""
    more = " …" if count > len(found) else ""
    for mark, unit in ((":", "line"), (", row ", "row"), ("!", None)):
        if all(place.startswith(f"{name}{mark}") for place in found):
            short = ", ".join(place.removeprefix(f"{name}{mark}") for place in found) + more
            return short if unit is None else f"{unit if count == 1 else f'{unit}s'} {short}"
    return ", ".join(found) + more  # a worksheet's: Train!C7
