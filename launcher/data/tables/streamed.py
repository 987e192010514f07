"""A sequence that is too large for memory, read again in each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, overload

from ...errors import LauncherError

T = TypeVar("T")


class Streamed(Sequence[T]):
    """``count`` items that ``begin`` yields from the first one on, the same ones each time.

    Items by index in ascending order cost one pass in all; a smaller index starts again.
    Raises LauncherError if ``begin`` has no item at an index any more.
    """

    def __init__(self, count: int, begin: Callable[[], Iterator[T]]):
        self._count, self._begin = count, begin
        self._next = 0
        self._rest: Iterator[T] = iter(())

    def __len__(self) -> int:
        return self._count

    def __reversed__(self) -> Iterator[T]:
        raise TypeError("each item would be a pass")

    def __iter__(self) -> Iterator[T]:
        return self._begin()

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        wanted = range(self._count)[place]
        if isinstance(wanted, int):
            return self._at(wanted)
        return [self._at(one) for one in wanted]

    def _at(self, place: int) -> T:
        if place < self._next or self._next == 0:
            self._rest, self._next = self._begin(), 0
        # Consumed here: an islice that is kept would wrap one more layer around the rest for each item.
        for found in islice(self._rest, place - self._next, None):
            self._next = place + 1
            return found
        self._next = 0
        raise LauncherError(f"the data changed while they were read: row {place + 1} of {self._count} is missing; start again")
