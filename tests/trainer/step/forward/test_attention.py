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
from trainer.step.batches.packing import Row, pack, pack_row
from trainer.step.forward.attention import attention, block_mask, by_segments, segments, visible

LENGTHS = st.tuples(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300))
EDGES = [(128, 128, 129), (129, 128, 128), (385, 256, 257), (1, 1, 1), (0, 700, 3)]


def row_of(lengths: list[tuple[int, int, int]], *, block_sparse: bool = False, padding: int = 0) -> Row:
    pairs = TokenPairs.of(TokenPair(*([3 + i % 90 for i in range(count)] for count in three), 1) for three in lengths)
    places = tuple(range(len(pairs)))
    return pack_row(pairs, places, block_sparse=block_sparse, padded=(lambda tokens: tokens + padding) if padding else None)


def attended(row: Row, **options: Any) -> list[torch.Tensor]:
    """Output and gradients: by segments, and with the mask of T²; two heads of keys serve four of queries."""
    found = []
    for mask in (segments(row), visible(row)[None, None]):
        torch.manual_seed(0)
        query, key, value = (torch.randn(1, heads, row.length, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
        module = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=True)
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


def test_a_bias_that_a_model_adds_to_its_scores_is_added_also_to_packed_rows() -> None:
    row = row_of([(5, 4, 3), (2, 3, 4)])
    bias = torch.randn(1, 4, row.length, row.length, dtype=torch.float64)
    biased, expected = attended(row, position_bias=bias)
    torch.testing.assert_close(biased, expected)
    assert not torch.allclose(biased, attended(row)[0])


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
def test_the_block_mask_of_flex_attention_is_the_boolean_mask() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    pairs = TokenPairs.of(TokenPair(list(range(3, 60)), list(range(3, 40)), list(range(3, 70)), 1) for _ in range(5))
    (row,) = pack(pairs, budget=5000, block_sparse=True)
    row = row.to(torch.device("cuda"))
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, len(row.input_ids), 32, device="cuda")
    dense = scaled_dot_product_attention(query, key, value, attn_mask=visible(row))
    sparse = torch.compile(flex_attention)(query, key, value, block_mask=block_mask(row))
    torch.testing.assert_close(dense, sparse, rtol=1e-3, atol=1e-3)
