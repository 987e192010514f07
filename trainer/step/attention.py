"""Attention over packed rows: every token sees its prompt and its own answer, up to itself.

On a GPU by FlexAttention, whose mask names the blocks in which anything is seen. On a CPU by segments: one call of
scaled_dot_product_attention for a pair's prompt and chosen answer, one for its rejected answer. A boolean mask over the row
costs T², whatever is seen; it is left for GPUs without a C compiler and for models that add a bias of their own to the scores.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from .blocks import BLOCK
from .packing import Row

SEGMENTS: Final = "packed_segments"  # the name of ``by_segments`` among transformers' attentions
GRAPHS: Final = 32  # of one function at most: training, evaluation and reference, for each kind of layer, and for a single block


def attention(device: torch.device, model: Any = None) -> str:
    """The attention of packed rows: FlexAttention where Triton can build it, SDPA on other GPUs, ``SEGMENTS`` on a CPU.

    SDPA too where ``model`` computes its attention in code of its own, which knows no other, or refuses FlexAttention.
    """
    if model is not None and not model._supports_attention_backend:
        return "sdpa"
    if device.type != "cuda":
        return SEGMENTS
    can_build = importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
    return "flex_attention" if can_build and (model is None or model._supports_flex_attn) else "sdpa"


def mask(row: Row, kind: str) -> object:
    """What a model's forward takes as ``attention_mask`` with ``kind``, an ``attention``."""
    if kind == "flex_attention":
        return block_mask(row)
    return segments(row) if kind == SEGMENTS else visible(row)[None, None]


def visible(row: Row) -> Tensor:
    """[T, T] bool: which token (first axis) sees which (second). The other masks mean the same."""
    order = torch.arange(row.length, device=row.segment.device)
    own = row.segment[:, None] == row.segment[None, :]
    return (own | (row.parent[:, None] == row.segment[None, :])) & (order[:, None] >= order[None, :])


def block_mask(row: Row) -> object:
    """A FlexAttention BlockMask [1, 1, T, T] from the tables that ``pack`` put into the row; no kernel runs for it."""
    from torch.nn.attention.flex_attention import BlockMask

    segment, parent, length = row.segment, row.parent, row.length

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ((segment[key] == segment[query]) | (segment[key] == parent[query])) & (query >= key)

    assert row.blocks is not None, "it was packed for FlexAttention"
    return BlockMask((length, length), *row.blocks, BLOCK_SIZE=(BLOCK, BLOCK), mask_mod=sees)


def refuse_dense_fallback() -> None:
    """Turns FlexAttention's silent way out into an error: without its kernel it computes T² scores in many small steps."""
    torch._dynamo.config.recompile_limit = GRAPHS  # torch's 8 are too few for two kinds of layers, and a run would end
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    warnings.filterwarnings("error", message="flex_attention called without torch.compile")


class Segments(Tensor):
    """A mask without content that carries its row through a model to ``by_segments``.

    A tensor of four axes, because transformers passes such a mask on as it is.
    """

    row: Row
    sees: tuple[Tensor, ...]  # for each pair [rejected, shared + rejected] bool: what its rejected answer sees
    _dense: Tensor | None

    def dense(self) -> Tensor:
        """[1, 1, T, T] bool."""
        if self._dense is None:
            self._dense = visible(self.row)[None, None]
        return self._dense


def segments(row: Row) -> Segments:
    """The mask for ``by_segments``."""
    found = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=row.buffer.device).as_subclass(Segments)
    found.row, found._dense = row, None
    found.sees = tuple(_lower_right(span.rejected, span.shared, row.buffer.device) for span in row.spans)
    return found


def _lower_right(queries: int, before: int, device: torch.device) -> Tensor:
    return torch.ones(queries, before + queries, dtype=torch.bool, device=device).tril(before)


def by_segments(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: [1, heads, T, d] each -> [1, T, heads, d]. A mask of another kind goes to SDPA."""
    is_ours = isinstance(attention_mask, Segments)
    if not is_ours or position_bias is not None or kwargs.get("softcap") is not None:
        seen = attention_mask.dense() if is_ours else attention_mask
        extra = {"dropout": dropout, "scaling": scaling, "position_bias": position_bias, **kwargs}
        return sdpa_attention_forward(module, query, key, value, seen, **extra)
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    found = []
    for span, sees in zip(attention_mask.row.spans, attention_mask.sees, strict=True):
        answers, end = span.begin + span.shared, span.begin + span.shared + span.chosen
        parts = (x[:, :, span.begin : end] for x in (query, key, value))
        found.append(F.scaled_dot_product_attention(*parts, dropout_p=dropout, scale=scaling, is_causal=True))
        if not span.rejected:
            continue
        last = end + span.rejected
        keys, values = (torch.cat([x[:, :, span.begin : answers], x[:, :, end:last]], 2) for x in (key, value))
        found.append(
            F.scaled_dot_product_attention(query[:, :, end:last], keys, values, attn_mask=sees, dropout_p=dropout, scale=scaling)
        )
    return torch.cat([part.transpose(1, 2) for part in found], 1), None


AttentionInterface.register(SEGMENTS, by_segments)
