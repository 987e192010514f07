"""Rows: every prompt once, no padding, and each token sees its own prompt and its own answer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.inputs.tokens import TokenPair
from trainer.step.packing import mask, pack, packed_length

IDS = st.lists(st.integers(3, 99), min_size=1, max_size=12)
PAIRS = st.lists(st.builds(TokenPair, st.lists(st.integers(3, 99), max_size=12), IDS, IDS, st.just(1)), min_size=1, max_size=12)


def test_a_row_holds_the_prompt_once_then_chosen_then_rejected_whose_positions_begin_again() -> None:
    (row,) = pack([TokenPair([1, 2, 3], [10, 11, 12], [20, 21], 5)], budget=100)
    # The prompt's last token stands before both answers: it predicts the first token of each.
    assert row.input_ids.tolist() == [1, 2, 3, 10, 11, 3, 20]
    assert row.position_ids.tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert row.where.tolist() == [2, 3, 4, 5, 6]
    assert row.targets.tolist() == [10, 11, 12, 20, 21]
    assert row.answer.tolist() == [0, 0, 0, 1, 1]


def test_a_token_sees_its_own_prompt_and_its_own_answer_and_nothing_later() -> None:
    (row,) = pack([TokenPair([1, 2, 3], [10, 11, 12], [20, 21], 5), TokenPair([4], [30], [40], 6)], budget=100)
    seen = mask(row)[0, 0].int().tolist()
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
    (row,) = pack([TokenPair([], [10, 11], [20, 21, 22], 5)], budget=100)
    assert row.input_ids.tolist() == [10, 20, 21]
    assert row.targets.tolist() == [11, 21, 22]


@given(PAIRS, st.integers(1, 60))
def test_every_pair_is_in_one_row_and_only_a_row_of_one_pair_exceeds_the_budget(pairs: list[TokenPair], budget: int) -> None:
    rows = pack(pairs, budget)
    assert sorted(place for row in rows for place in row.pairs) == list(range(len(pairs)))
    for row in rows:
        assert len(row.input_ids) == sum(packed_length(pairs[place]) for place in row.pairs)
        assert len(row.input_ids) <= budget or len(row.pairs) == 1
    again = pack(pairs, budget)
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(rows, again, strict=True))


@given(PAIRS)
def test_what_a_place_predicts_is_what_it_sees_continued(pairs: list[TokenPair]) -> None:
    """Read back from mask, positions and targets alone, every answer stands after its prompt, token by token."""
    for row in pack(pairs, budget=80):
        visible = mask(row)[0, 0]
        for where, target, answer in zip(row.where.tolist(), row.targets.tolist(), row.answer.tolist(), strict=True):
            pair = pairs[row.pairs[answer // 2]]
            whole = pair.prompt + (pair.rejected if answer % 2 else pair.chosen)
            seen = visible[where].nonzero()[:, 0]
            assert row.input_ids[seen].tolist() == whole[: len(seen)]
            assert row.position_ids[seen].tolist() == list(range(len(seen)))
            assert target == whole[len(seen)]


@pytest.mark.gpu
def test_the_block_mask_of_flex_attention_is_the_boolean_mask() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    from trainer.step.packing import block_mask

    pairs = [TokenPair(list(range(3, 60)), list(range(3, 40)), list(range(3, 70)), 1) for _ in range(5)]
    (row,) = pack(pairs, budget=5000)
    row = row.to(torch.device("cuda"))
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, len(row.input_ids), 32, device="cuda")
    dense = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask(row))
    sparse = torch.compile(flex_attention)(query, key, value, block_mask=block_mask(row))
    torch.testing.assert_close(dense, sparse, rtol=1e-3, atol=1e-3)
