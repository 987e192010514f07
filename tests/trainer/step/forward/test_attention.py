"""Every form of a row's mask lets a token see what the others let it see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.step.batches.blocks import BLOCK
from trainer.step.batches.packing import Row, pack_row
from trainer.step.forward import segments as segments_module
from trainer.step.forward.attention import attention, block_mask, by_segments, segments, visible
from trainer.step.forward.segments import CHUNK
from trainer.step.forward.windows import WINDOW

LENGTHS = st.tuples(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300))
EDGES = [(128, 128, 129), (129, 128, 128), (385, 256, 257), (1, 1, 1), (0, 700, 3)]


def row_of(lengths: list[tuple[int, int, int]], *, block_sparse: bool = False, window: int = 0, padding: int = 0) -> Row:
    pairs = TokenPairs.of(TokenPair(*([3 + i % 90 for i in range(count)] for count in three), 1) for three in lengths)
    places = tuple(range(len(pairs)))
    padded = (lambda tokens: tokens + padding) if padding else None
    return pack_row(pairs, places, block_sparse=block_sparse, window=window, padded=padded)


def attended(row: Row, window: int = 0, **options: Any) -> list[torch.Tensor]:
    """Output and gradients: by segments, and with the mask of T²; two heads of keys serve four of queries."""
    found = []
    for mask in (segments(row), visible(row, window)[None, None]):
        torch.manual_seed(0)
        query, key, value = (torch.randn(1, heads, row.length, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
        module = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=True, **{WINDOW: window})
        out, _ = by_segments(module, query, key, value, mask, scaling=0.3, **options)
        (out * torch.randn_like(out)).sum().backward()
        found.append(torch.cat([x.reshape(-1) for x in (out, query.grad, key.grad, value.grad)]))
    return found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=5))
def test_attention_by_segments_has_the_outputs_and_gradients_of_the_whole_mask(
    lengths: list[tuple[int, int, int]],
) -> None:
    row = row_of(lengths)
    if row.length:
        torch.testing.assert_close(*attended(row))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4),
    st.integers(1, 60),
    st.sampled_from([1, 3, CHUNK]),
)
def test_a_window_hides_the_same_from_segments_as_from_the_whole_mask(
    lengths: list[tuple[int, int, int]], window: int, chunk: int
) -> None:
    row = row_of(lengths)
    if row.length:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments_module, "CHUNK", chunk)
            torch.testing.assert_close(*attended(row, window))


def test_a_window_counts_positions_and_not_places_of_the_row() -> None:
    row = row_of([(4, 3, 3)])
    rejected = row.segment == 2
    seen = visible(row, 4)[rejected].int().tolist()
    # columns: 3 tokens of the prompt, its last one before each answer, which stands there again
    assert seen == [[1, 1, 1, 0, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 1, 1, 1]]


def test_a_bias_that_a_model_adds_to_its_scores_is_added_also_to_packed_rows() -> None:
    row = row_of([(5, 4, 3), (2, 3, 4)])
    bias = torch.randn(1, 4, row.length, row.length, dtype=torch.float64)
    biased, expected = attended(row, position_bias=bias)
    torch.testing.assert_close(biased, expected)
    assert not torch.allclose(biased, attended(row)[0])
    torch.testing.assert_close(*attended(row, 3, position_bias=bias))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(LENGTHS, st.sampled_from(EDGES)), min_size=1, max_size=4), st.sampled_from([0, 0, 1, 200, 400]))
def test_the_blocks_made_from_segments_are_those_that_torch_finds_in_the_whole_mask(
    lengths: list[tuple[int, int, int]], padding: int
) -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    row = row_of(lengths, block_sparse=True, padding=padding)
    if not row.length:
        return
    ours: Any = block_mask(row)
    torchs: Any = create_block_mask(ours.mask_mod, B=1, H=1, Q_LEN=row.length, KV_LEN=row.length, device="cpu", BLOCK_SIZE=BLOCK)
    for side in ("kv", "full_kv", "q", "full_q"):
        counts, indices = (getattr(ours, f"{side}_{name}") for name in ("num_blocks", "indices"))
        assert torch.equal(counts, getattr(torchs, f"{side}_num_blocks")), side
        is_valid = torch.arange(indices.shape[-1]) < counts[..., None]
        assert torch.equal(indices * is_valid, getattr(torchs, f"{side}_indices") * is_valid), side
    order = torch.arange(row.length)
    assert torch.equal(ours.mask_mod(0, 0, order[:, None], order[None, :]), visible(row))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.one_of(LENGTHS, st.sampled_from(EDGES)), min_size=1, max_size=4),
    st.sampled_from([1, 100, 128, 129, 300, 2000]),
    st.sampled_from([0, 200]),
)
def test_the_blocks_of_a_window_leave_out_nothing_that_is_seen(
    lengths: list[tuple[int, int, int]], window: int, padding: int
) -> None:
    row = row_of(lengths, block_sparse=True, window=window, padding=padding)
    if not row.length:
        return
    order, ours = torch.arange(row.length), block_mask(row, window)
    seen = visible(row, window)
    assert torch.equal(ours.mask_mod(0, 0, order[:, None], order[None, :]), seen)
    assert torch.equal(reached(ours, row.length) & (seen | whole(ours, row.length)), seen)
    assert torch.equal(reached(ours, row.length, "q").T, reached(ours, row.length))
    plain: Any = block_mask(row)
    before: Any = block_mask(row_of(lengths, block_sparse=True, padding=padding))
    assert all(torch.equal(one, other) for one, other in zip(plain.as_tuple()[2:10], before.as_tuple()[2:10], strict=True))


def test_a_window_leaves_out_the_blocks_before_it() -> None:
    row = row_of([(4000, 100, 100)], block_sparse=True, window=256)
    counted: Any = [int((mask.kv_num_blocks + mask.full_kv_num_blocks).sum()) for mask in (block_mask(row), block_mask(row, 256))]
    assert counted[1] < counted[0] / 4


def reached(mask: Any, length: int, side: str = "kv", names: tuple[str, ...] = ("", "full_")) -> torch.Tensor:
    """[T, T] bool: the keys (second axis) of all blocks in a mask's tables, for each query; for ``q`` the other way round."""
    found = torch.zeros(-(-length // BLOCK), -(-length // BLOCK), dtype=torch.bool)
    for name in names:
        counts, indices = (getattr(mask, f"{name}{side}_{what}")[0, 0] for what in ("num_blocks", "indices"))
        for row, (count, places) in enumerate(zip(counts.tolist(), indices.tolist(), strict=True)):
            found[row, places[:count]] = True
    return found.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:length, :length]


def whole(mask: Any, length: int) -> torch.Tensor:
    """As ``reached``, of the blocks whose keys are all seen."""
    return reached(mask, length, names=("full_",))


def test_the_blocks_of_a_row_of_24_thousand_tokens_take_less_than_a_megabyte() -> None:
    plain, sparse = (row_of([(12_000, 6_000, 6_000)], block_sparse=tables).buffer.nbytes for tables in (False, True))
    assert sparse - plain < 10**6


def test_a_model_that_refuses_flex_attention_has_sdpa_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers raises an error at once, where its name is set."""
    from transformers import GPT2LMHeadModel, Qwen3ForCausalLM

    from trainer.step.forward import attention as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(module.shutil, "which", lambda name: name)
    found = [attention(torch.device("cuda"), model) for model in (Qwen3ForCausalLM, GPT2LMHeadModel)]
    assert found == ["flex_attention", "sdpa"]


@pytest.mark.gpu
@pytest.mark.parametrize("window", [0, 20])
def test_the_block_mask_of_flex_attention_is_the_boolean_mask(window: int) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    pairs = TokenPairs.of(TokenPair(list(range(3, 60)), list(range(3, 40)), list(range(3, 70)), 1) for _ in range(5))
    row = pack_row(pairs, tuple(range(5)), block_sparse=True, window=window).to(torch.device("cuda"))
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, len(row.input_ids), 32, device="cuda")
    dense = scaled_dot_product_attention(query, key, value, attn_mask=visible(row, window))
    sparse = torch.compile(flex_attention)(query, key, value, block_mask=block_mask(row, window))
    torch.testing.assert_close(dense, sparse, rtol=1e-3, atol=1e-3)
