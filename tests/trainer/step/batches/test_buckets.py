"""Rows of a GPU have few lengths, little padding, and the numbers of rows without it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.benchmarks.pairs import SHAPES, make_pairs
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.step.batches.blocks import BLOCK
from trainer.step.batches.buckets import MOST, Buckets
from trainer.step.batches.packing import first_fit, pack_row, packed_lengths, rows_of
from trainer.step.forward.attention import visible


def padding(sizes: Any, buckets: Buckets, together: int) -> tuple[float, set[int]]:
    """(share of padding in the rows of an epoch in an order of its own, their lengths)."""
    order = np.random.default_rng(7).permutation(len(sizes))
    steps = [sizes[order[begin : begin + together]] for begin in range(0, len(order), together)]
    rows = [int(step[row].sum()) for step in steps for row in first_fit(step, buckets.budget)]
    lengths = [buckets.padded(row) for row in rows]
    return 1 - sum(rows) / sum(lengths), set(lengths)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("together", [8, 32])
@pytest.mark.parametrize("budget", [3328, 7300, 53_000])
def test_rows_of_eight_lengths_have_at_most_six_percent_of_padding(shape: str, together: int, budget: int) -> None:
    sizes = packed_lengths(make_pairs(SHAPES[shape], 640, 300))
    buckets = Buckets.of(sizes, together, budget)
    assert len(buckets.lengths) <= MOST
    assert all(length % BLOCK == 0 for length in buckets.lengths)
    assert max(sizes) <= buckets.budget <= budget
    share, lengths = padding(sizes, buckets, together)
    assert share <= 0.06
    assert len(lengths) <= MOST
    assert Buckets.of(sizes, together, buckets.budget) == buckets, "a resumed run has the same, from the budget it remembers"


def test_one_length_more_never_adds_padding_and_the_best_of_all_choices_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from itertools import combinations

    sizes = np.array([100, 200, 300, 500, 700, 900, 901, 1000, 1200, 1290])
    for most in range(1, 7):
        monkeypatch.setattr("trainer.step.batches.buckets.MOST", most)
        found = Buckets.of(sizes, 1, 10**4)
        ends = sorted({-(-int(size) // BLOCK) * BLOCK for size in sizes})
        choices = [[*some, ends[-1]] for n in range(most) for some in combinations(ends[:-1], n)]
        best = min(sum(min(end for end in ends if end >= size) for size in [*sizes, 1290]) for ends in choices)
        assert sum(map(found.padded, [*sizes.tolist(), 1290])) == best


def test_a_pair_longer_than_the_budget_has_a_length_and_a_longer_one_yet_the_next_multiple_of_a_block() -> None:
    buckets = Buckets.of(np.array([100, 120, 700]), 3, 300)
    assert buckets.budget == 220
    assert buckets.padded(700) == 768
    assert buckets.padded(1000) == 1024
    assert Buckets(0).padded(129) == 256


def test_padding_is_a_segment_that_sees_itself_and_is_seen_by_no_pair() -> None:
    pairs = TokenPairs.of([TokenPair([5, 6, 7], [8, 9], [10], 2), TokenPair([], [5, 6], [7, 8], 3)])
    plain, row = pack_row(pairs, (0, 1)), pack_row(pairs, (0, 1), padded=lambda tokens: tokens + 4)
    real, places = plain.length, plain.predicted
    assert (row.length, row.padding, row.predicted, row.spare) == (real + 4, 4, BLOCK, BLOCK - places)
    for name, count in {
        "input_ids": real,
        "position_ids": real,
        "segment": real,
        "parent": real,
        "counts": 2,
        "places": 2,
    }.items():
        assert torch.equal(getattr(row, name)[:count], getattr(plain, name)), name
    for name in ("where", "targets", "answer", "side"):
        assert torch.equal(getattr(row, name)[:places], getattr(plain, name)), name
    assert row.input_ids[real:].tolist() == row.position_ids[real:].tolist() == [0] * 4
    assert set(row.answer[places:].tolist()) == {2 * len(row.pairs)}
    assert row.counted == plain.counted
    seen = visible(row)
    assert torch.equal(seen[:real, :real], visible(plain))
    assert not seen[:real, real:].any()
    assert torch.equal(seen[real:], torch.cat([torch.zeros(4, real), torch.ones(4, 4).tril()], 1).bool())


def test_a_padded_row_has_the_log_probabilities_the_gradient_and_the_figures_of_the_row_without_padding(
    tmp_path: Path, make_experiment: Callable[..., Any], make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.step.loss.figures import Figures
    from trainer.step.packed import Packed

    monkeypatch.setattr("trainer.step.packed.attention", lambda device, model: "sdpa")  # by segments, no row is padded
    trainer, tokens, _ = make_trainer(tmp_path, make_experiment(), pairs=4)
    trainer.model.eval()
    packed, found = Packed(trainer.model), []
    for padded in (None, Buckets(0).padded):
        figures = Figures(trainer.accelerator.device, 0.0)
        row = pack_row(tokens.pairs, (0, 1, 2, 3), padded=padded)
        assert (row.padding > 0) == (row.spare > 0) == (padded is not None)
        logps, output = packed(trainer.model, row)
        losses = -torch.nn.functional.logsigmoid(0.1 * (logps[:, 0] - logps[:, 1]))
        figures.add(row, output, logps.detach(), logps.detach(), losses.detach())
        losses.sum().backward()
        gradient = torch.cat([p.grad.reshape(-1) for p in trainer.model.parameters() if p.grad is not None])
        trainer.model.zero_grad()
        found.append((logps.detach(), gradient, figures.means(trainer.accelerator)))
    (plain, slope, means), (padded_logps, padded_slope, padded_means) = found
    torch.testing.assert_close(padded_logps, plain, rtol=1e-6, atol=0)
    assert slope.abs().max() > 0
    assert (padded_slope - slope).norm() <= 1e-6 * slope.norm()
    assert padded_means == pytest.approx(means, rel=1e-6)


def test_a_gpus_rows_are_fitted_to_the_data_and_shortened_with_the_budget() -> None:
    from trainer.step.packed import Packed

    pairs = make_pairs(SHAPES["uneven"], 64, 300)
    for kind in ("flex_attention", "segment_attention"):
        packed: Any = Packed.__new__(Packed)
        packed.kind, packed.buckets, packed._windows = kind, Buckets(0), [0]
        budget = packed.fit(pairs, 8, 5000)
        lengths = [packed.row(pairs, places).length for places in rows_of(pairs, budget)]
        if kind == "flex_attention":
            assert set(lengths) <= set(packed.buckets.lengths)
            assert packed.fit(pairs, 8, budget // 2) <= budget // 2
        else:
            assert budget == 5000
            assert sum(lengths) == packed_lengths(pairs).sum()


@pytest.mark.parametrize("block_sparse", [False, True])
def test_a_row_is_packed_by_as_many_calls_however_long_its_pairs_are(block_sparse: bool) -> None:
    def calls(scale: int, count: int) -> int:
        pairs, seen = make_pairs(SHAPES["short prompt"], count, 300, scale), 0

        def profile(frame: Any, event: str, argument: Any) -> None:
            nonlocal seen
            seen += event in ("call", "c_call")

        places = tuple(range(count))
        pack_row(pairs, places, block_sparse=block_sparse, padded=Buckets(0).padded)
        sys.setprofile(profile)
        try:
            pack_row(pairs, places, block_sparse=block_sparse, padded=Buckets(0).padded)
        finally:
            sys.setprofile(None)
        return seen

    assert calls(8, 32) <= calls(1, 32) + 8, "no call a token"
    assert calls(1, 32) <= 600
    assert calls(1, 32) - calls(1, 16) <= 16 * 12, "a dozen a pair"
