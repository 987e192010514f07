"""Seen: what the first cells of a column are: texts, numbers, lists or conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..tables.table import Row
from ..text.faults import is_missing
from ..text.messages import Spelling, Unreadable, loaded
from .verdicts import number, rating

_SPELLING: Final = Spelling()


@dataclass(frozen=True)
class Seen:
    """What the first cells of a column are; ``cells``: those with a value."""

    name: str
    cells: tuple[str, ...]
    first: str = ""  # cell that is not blank
    is_number: bool = False
    is_rating: bool = False  # numbers, or words such as good and bad
    is_messages: bool = False
    items: tuple[Any, ...] = field(default=(), hash=False)  # of the first list with several

    @classmethod
    def of(cls, name: str, rows: Sequence[Row]) -> Seen:
        cells = tuple(cell for row in rows if not is_missing(cell := row.cells[name]))
        if not cells:
            return cls(name, ())
        first = next(row.cells[name] for row in rows if row.cells[name].strip())
        is_messages = _SPELLING.is_messages(first)
        lists = () if is_messages else next((found for cell in cells[:20] if len(found := _items(cell)) > 1), ())
        return cls(name, cells, first, all(map(is_number, cells)), all(map(_is_rating, cells)), is_messages, lists)

    @property
    def is_text(self) -> bool:
        return bool(self.cells) and not self.is_number and not self.items

    @property
    def length(self) -> float:
        return sum(map(len, self.cells)) / max(1, len(self.cells))


def _items(cell: str) -> tuple[Any, ...]:
    if cell.lstrip()[:1] != "[":
        return ()
    try:
        found = loaded(cell)
    except Unreadable:
        return ()
    return tuple(found) if isinstance(found, list) else ()


def is_number(cell: str) -> bool:
    """Whether ``cell`` can be a rating."""
    try:
        return number(cell) is not None
    except ValueError:
        return False


def _is_rating(cell: str) -> bool:
    try:
        return rating(cell) is not None
    except ValueError:
        return False


def ends_with_answer(cell: str) -> bool:
    """Whether ``cell`` is a conversation whose last message is the assistant's."""
    return _roles(cell)[-1:] == ["assistant"]


def is_whole(cell: str) -> bool:
    """Whether ``cell`` is a conversation from a question to an answer."""
    return ends_with_answer(cell) and _roles(cell)[0] != "assistant"


def _roles(cell: str) -> list[str]:
    try:
        return [str(one["role"]) for one in _SPELLING.read(cell)]
    except Unreadable:
        return []
