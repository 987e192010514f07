"""Figures of groups of pairs."""

from __future__ import annotations

from launcher.runs.learned.json_lines import written
from launcher.runs.learned.pair_rewards import PairReward, by_column, by_length, parsed


def pair(row: int, margin: float, length: int = 10, topic: str = "bread") -> PairReward:
    return PairReward(row, 5, length, 4, margin / 2, -margin / 2, {"topic": topic})


def test_what_is_written_is_read_back() -> None:
    pairs = [pair(2, 1.5), pair(3, -0.5, topic='two "words"\nand a line')]
    assert parsed(written(pairs)) == pairs
    assert '"margin": 1.5' in written(pairs).splitlines()[0]


def test_pairs_fall_into_four_groups_by_the_tokens_of_their_longer_answer_and_one_length_into_one_group() -> None:
    lengths = [10, 11, 12, 13, 14, 14, 14, 20]
    groups = by_length([pair(row, 1.0, length) for row, length in enumerate(lengths)], 0.0)
    found = [(group.begin, group.end, group.group.pairs) for group in groups]
    assert found == [(10, 11, 2), (12, 13, 2), (14, 14, 3), (20, 20, 1)]
    assert [group.group.name for group in by_length([pair(1, 1.0, 7)], 0.0)] == ["7 tokens"]


def test_groups_of_a_column_come_with_the_lowest_margin_first_and_rounding_is_no_preference() -> None:
    pairs = [pair(2, 1.0), pair(3, 3.0), pair(4, -1.0, topic="tea"), pair(5, 1e-6, topic="tea")]
    tea, bread = by_column(pairs, "topic", noise=1e-3)
    assert (tea.name, tea.pairs, tea.accuracy.value) == ("tea", 2, 0.0)
    assert (bread.name, bread.margin.value, bread.accuracy.value) == ("bread", 2.0, 1.0)
