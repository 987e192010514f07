"""Which training pairs look mislabelled."""

from __future__ import annotations

import random

import pytest

from launcher.runs.learned.json_lines import written
from launcher.runs.learned.suspects import Suspect, count, cut, parsed, ranked, scores


def margins(pairs: int, swapped: int, seed: int = 0) -> list[float]:
    """Margins as a training leaves them: those of swapped pairs are about as far below zero as the others are above."""
    draw = random.Random(seed)
    return [draw.gauss(-1.8, 1.0) for _ in range(swapped)] + [draw.gauss(2.0, 1.0) for _ in range(pairs - swapped)]


@pytest.mark.parametrize("seed", range(5))
def test_swapped_pairs_are_counted_and_chance_is_not(seed: int) -> None:
    found = count(margins(400, 20, seed), noise=1e-4)
    assert 14 <= found <= 28
    assert count(margins(400, 0, seed), noise=1e-4) == 0


def test_two_swapped_pairs_of_a_small_table_are_counted_where_they_are_far_below_all_others() -> None:
    near = [4.3 + 0.01 * place for place in range(43)]
    assert count([-4.5, -4.4, *near], noise=1e-4) == 2
    assert count([-0.1, 4.2, *near], noise=1e-4) == 1
    assert count([-0.1, -0.2, *(0.1 * place for place in range(43))], noise=1e-4) == 0, "the spread is larger"


def test_low_margins_that_are_above_zero_are_no_suspects() -> None:
    values = [margin + 10 for margin in margins(400, 20)]
    assert count(values, noise=1e-4) == 0


def test_a_score_is_the_distance_below_the_median_in_spreads_of_what_is_above_it() -> None:
    assert scores([-8.0, 0.0, 1.0, 2.0, 3.0]) == pytest.approx([9 / 2.5**0.5, 1 / 2.5**0.5, 0, -1 / 2.5**0.5, -2 / 2.5**0.5])
    assert scores([1.0, 1.0, 1.0]) == [0.0, 0.0, 0.0], "equal margins have no spread"


def test_the_tenth_with_the_lowest_margins_is_kept_but_at_least_twenty_and_at_most_a_thousand() -> None:
    assert ranked([3.0, -1.0, 2.0]) == [1, 2, 0]
    assert len(ranked([float(n) for n in range(420)])) == 42
    assert len(ranked([float(n) for n in range(100)])) == 20
    assert len(ranked([float(n) for n in range(20_000)])) == 1000


def test_what_is_written_is_read_back_and_long_texts_are_cut() -> None:
    one = Suspect(7, -1.5, 3.2, "a\n“b”", "c", cut("d" * 600))
    assert parsed(written([one])) == [one]
    assert (len(one.rejected), one.rejected[-1]) == (500, "…")
