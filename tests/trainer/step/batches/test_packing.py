"""Rows: every prompt once, no padding, and each token sees its own prompt and its own answer."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.step.batches.blocks import up
from trainer.step.batches.packing import first_fit, pack, pack_row, packed_lengths
from trainer.step.forward.attention import visible

IDS = st.lists(st.integers(3, 99), min_size=1, max_size=12)
ONE = st.builds(TokenPair, st.lists(st.integers(3, 99), max_size=12), IDS, IDS, st.just(1))
PAIRS = st.lists(ONE, min_size=1, max_size=12).map(TokenPairs.of)


def test_a_row_holds_the_prompt_once_then_chosen_then_rejected_whose_positions_begin_again() -> None:
    (row,) = pack(TokenPairs.of([TokenPair([1, 2, 3], [10, 11, 12], [20, 21], 5)]), budget=100)
    # The prompt's last token stands before both answers: it predicts the first token of each.
    assert row.input_ids.tolist() == [1, 2, 3, 10, 11, 3, 20]
    assert row.position_ids.tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert row.where.tolist() == [2, 3, 4, 5, 6]
    assert row.targets.tolist() == [10, 11, 12, 20, 21]
    assert row.answer.tolist() == [0, 0, 0, 1, 1]


def test_a_token_sees_its_own_prompt_and_its_own_answer_and_nothing_later() -> None:
    pairs = TokenPairs.of([TokenPair([1, 2, 3], [10, 11, 12], [20, 21], 5), TokenPair([4], [30], [40], 6)])
    (row,) = pack(pairs, budget=100)
    seen = visible(row).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 1, 0, 0, 0],  # the prompt's last token again: it does not see itself twice
        [1, 1, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]


def test_without_a_prompt_the_first_token_of_an_answer_is_given_and_not_predicted() -> None:
    (row,) = pack(TokenPairs.of([TokenPair([], [10, 11], [20, 21, 22], 5)]), budget=100)
    assert row.input_ids.tolist() == [10, 20, 21]
    assert row.targets.tolist() == [11, 21, 22]


@given(PAIRS, st.integers(1, 60))
def test_every_pair_is_in_one_row_and_only_a_row_of_one_pair_exceeds_the_budget(pairs: TokenPairs, budget: int) -> None:
    rows = pack(pairs, budget)
    assert sorted(place for row in rows for place in row.pairs) == list(range(len(pairs)))
    for row in rows:
        assert len(row.input_ids) == sum(packed_lengths(pairs)[place] for place in row.pairs)
        assert len(row.input_ids) <= budget or len(row.pairs) == 1
    again = pack(pairs, budget)
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(rows, again, strict=True))


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 60))
def test_rows_are_those_of_first_fit_decreasing(lengths: list[int], budget: int) -> None:
    expected: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        fit = next((row for row, left in enumerate(room) if left >= lengths[place]), len(room))
        if fit == len(room):
            expected.append([])
            room.append(budget)
        expected[fit].append(place)
        room[fit] -= lengths[place]
    assert first_fit(np.array(lengths, int), budget) == expected


@given(PAIRS, st.randoms())
def test_some_places_of_the_data_are_packed_like_those_pairs_alone(pairs: TokenPairs, random: Random) -> None:
    places = random.sample(range(len(pairs)), k=random.randint(1, len(pairs)))
    alone = pack(pairs.take(places), budget=80)
    for row, expected in zip(pack(pairs, 80, places), alone, strict=True):
        assert row.pairs == tuple(places[i] for i in expected.pairs) == tuple(row.places.tolist())
        assert torch.equal(row.input_ids, expected.input_ids)
        assert row.counts.tolist() == [
            [row.answer.tolist().count(2 * i + side) for side in (0, 1)] for i in range(len(row.pairs))
        ]


@given(PAIRS)
def test_what_a_place_predicts_is_what_it_sees_continued(pairs: TokenPairs) -> None:
    """Read back from mask, positions and targets alone, every answer stands after its prompt, token by token."""
    for row in pack(pairs, budget=80):
        sees = visible(row)
        for where, target, answer in zip(row.where.tolist(), row.targets.tolist(), row.answer.tolist(), strict=True):
            pair = pairs[row.pairs[answer // 2]]
            whole = pair.prompt + (pair.rejected if answer % 2 else pair.chosen)
            seen = sees[where].nonzero()[:, 0]
            assert row.input_ids[seen].tolist() == whole[: len(seen)]
            assert row.position_ids[seen].tolist() == list(range(len(seen)))
            assert target == whole[len(seen)]


@given(PAIRS)
def test_a_row_of_a_fixed_shape_holds_the_row_without_and_pairs_that_are_missing(pairs: TokenPairs) -> None:
    places = tuple(range(len(pairs)))
    own, fixed = pack_row(pairs, places), pack_row(pairs, places, padded=up, room=8)
    tokens, predicted, count = own.length, own.predicted, len(pairs)
    slots = 8 if count <= 8 else 16
    assert fixed.shape == (up(tokens), up(predicted), slots, 0)
    assert fixed.input_ids.tolist() == own.input_ids.tolist() + [0] * (up(tokens) - tokens)
    assert fixed.where[:predicted].tolist() == own.where.tolist()
    assert fixed.answer.tolist() == own.answer.tolist() + [2 * slots] * (up(predicted) - predicted)
    assert fixed.side[predicted:].tolist() == [2] * (up(predicted) - predicted)
    assert fixed.counts.tolist() == own.counts.tolist() + [[0, 0]] * (slots - count)
    assert fixed.places.tolist() == list(places) + [-1] * (slots - count)
    assert own.places.tolist() == list(places)
