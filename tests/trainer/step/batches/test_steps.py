"""Which pairs a step holds depends on seed, epoch and step; which rank has them only on the number of ranks."""

from __future__ import annotations

import random

import pytest

from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.step.batches.packing import pack
from trainer.step.batches.steps import Steps

ANY = random.Random(7)
BUDGET = 200
PAIRS = TokenPairs.of(
    TokenPair([1] * ANY.randint(1, 40), [2] * ANY.randint(1, 90), [3] * ANY.randint(1, 90), n) for n in range(37)
)


def steps(world: int, *, seed: int = 5, epoch: int = 0, batch: int = 8) -> list[list[tuple[int, ...]]]:
    """Step by step, the places of each rank."""
    ranks = []
    for rank in range(world):
        sampler = Steps(PAIRS, batch=batch, seed=seed, rank=rank, world=world, budget=BUDGET)
        sampler.set_epoch(epoch)
        ranks.append([share.pairs if share.is_work else () for share in sampler])
    return [list(shares) for shares in zip(*ranks, strict=True)]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_a_step_holds_the_same_pairs_for_any_number_of_ranks(world: int) -> None:
    one = [sorted(shares[0]) for shares in steps(1)]
    assert [sorted(place for share in shares for place in share) for shares in steps(world)] == one


def test_an_epoch_holds_every_pair_once_and_another_epoch_another_order() -> None:
    first, second = (steps(1, epoch=epoch) for epoch in (0, 1))
    assert sorted(place for (share,) in first for place in share) == list(range(len(PAIRS)))
    assert first != second
    assert first == steps(1, epoch=0)
    assert first != steps(1, epoch=0, seed=6)


def test_ranks_have_nearly_as_many_tokens_each() -> None:
    length = [len(p.prompt) + len(p.chosen) + len(p.rejected) for p in PAIRS]
    for shares in steps(2)[:-1]:
        loads = [sum(length[place] for place in share) for share in shares]
        assert abs(loads[0] - loads[1]) <= max(length), loads


def test_a_rank_without_a_pair_in_the_last_step_repeats_one_that_counts_nothing() -> None:
    last = [list(Steps(PAIRS, batch=12, seed=5, rank=rank, world=3, budget=BUDGET))[-1] for rank in range(3)]
    assert [share.is_work for share in last] == [True, False, False], "37 pairs: the fourth step has one"
    assert len({share.pairs for share in last}) == 1
    assert {share.total for share in last} == {1}


def test_a_share_knows_how_many_rows_the_busiest_rank_computes() -> None:
    for shares in zip(*(Steps(PAIRS, batch=12, seed=5, rank=rank, world=3, budget=BUDGET) for rank in range(3)), strict=True):
        rows = [len(pack(PAIRS.take(share.pairs), BUDGET)) for share in shares]
        assert {share.rows for share in shares} == {max(rows)}


def test_the_order_may_be_that_of_the_data_and_an_epoch_may_leave_out_the_last_pairs_of_its_order() -> None:
    sequential = list(Steps(PAIRS, batch=8, seed=None, rank=0, world=1, budget=BUDGET))
    assert [sorted(share.pairs) for share in sequential] == [list(range(i, min(i + 8, 37))) for i in range(0, 37, 8)]
    whole, kept = (Steps(PAIRS, batch=8, seed=5, rank=0, world=1, budget=BUDGET, kept=n) for n in (None, 34))
    assert (len(whole), len(kept)) == (5, 5)
    assert [share.total for share in kept] == [8, 8, 8, 8, 2]
    assert [share.pairs for share in kept][:4] == [share.pairs for share in whole][:4]


def test_the_order_is_that_of_transformers_so_plain_trl_sees_the_same_steps() -> None:
    from accelerate.data_loader import SeedableRandomSampler

    theirs = SeedableRandomSampler(PAIRS, data_seed=5)
    theirs.set_epoch(1)
    order = list(theirs)
    ours = steps(1, epoch=1)
    assert [sorted(share) for (share,) in ours] == [sorted(order[i : i + 8]) for i in range(0, len(order), 8)]
