"""A sequence that is made again for each pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from launcher.data.tables.streamed import Streamed
from launcher.errors import LauncherError


def test_places_in_ascending_order_cost_one_pass_and_a_smaller_one_begins_again() -> None:
    made: list[int] = []

    def begin() -> Iterator[int]:
        for one in range(10):
            made.append(one)
            yield 10 * one

    some = Streamed(10, begin)
    assert (len(some), list(some[2:5]), some[7], some[-1]) == (10, [20, 30, 40], 70, 90)
    assert made == list(range(10))
    assert (some[7], some[0], some[0]) == (70, 0, 0)
    assert made[10:] == [*range(8), 0, 0]
    assert list(some) == [10 * one for one in range(10)]
    with pytest.raises(IndexError):
        some[10]


def test_a_pass_by_places_costs_as_much_as_its_items() -> None:
    count = 100_000
    some = Streamed(count, lambda: iter(range(count)))
    found = [one for start in range(0, count, 4096) for one in some[start : start + 4096]]
    assert found == list(range(count))


def test_an_item_that_is_missing_in_a_later_pass_is_an_error() -> None:
    with pytest.raises(LauncherError, match="changed while they were read: row 3 of 5 is missing"):
        Streamed(5, lambda: iter(range(2)))[1:4]
