"""Progress of a pass over rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final, TypeVar

T = TypeVar("T")
Rows = Callable[[int, int, str], None]  # done, of how many, what is done with them
EVERY: Final = 5000  # rows


def nothing(done: int, total: int, what: str) -> None:
    """Ignores progress."""


def watched(rows: Collection[T], what: str, tell: Rows) -> Iterator[T]:
    """Yields ``rows``; for many rows, ``tell`` gets the number done now and then, and at the end."""
    total = len(rows)
    if total <= EVERY:
        yield from rows
        return
    for number, row in enumerate(rows):
        if number % EVERY == 0:
            tell(number, total, what)
        yield row
    tell(total, total, what)
