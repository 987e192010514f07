"""A sequence that is made again for each pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from launcher.data.streamed import Streamed


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
