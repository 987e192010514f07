"""Attention over packed rows: a token attends to its prompt and to its own answer, causally.

On a GPU FlexAttention skips blocks that are masked completely; on a CPU attention is computed by segments. A boolean [T, T] mask
costs T² however little is visible. It is used on GPUs without a C compiler and for models that add their own bias to the scores.
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
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ..batches.blocks import BLOCK
from ..batches.packing import Row
from .last import ANSWERS
from .segments import segment_attention
from .windows import WINDOW

SEGMENTS: Final = "segment_attention"  # the name of ``by_segments`` among transformers' attentions
GRAPHS: Final = 32  # of one function: training, evaluation and reference, for each kind of layer and for a single block


def attention(device: torch.device, model: Any = None) -> str:
    """The attention of packed rows: FlexAttention where Triton can build it, SDPA on other GPUs, ``SEGMENTS`` on a CPU.

    SDPA also if ``model`` has its own attention code or does not support FlexAttention.
    """
    if model is not None and not model._supports_attention_backend:
        return "sdpa"
    if device.type != "cuda":
        return SEGMENTS
    can_build = importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
    return "flex_attention" if can_build and (model is None or model._supports_flex_attn) else "sdpa"


def mask(row: Row, kind: str, window: int = 0) -> object:
    """The ``attention_mask`` of a decoder layer for ``kind``, which ``attention`` has chosen.

    ``window``: the layer's sliding window (see ``windows``). With ``SEGMENTS`` all layers share one mask and read the window from
    their modules.
    """
    if kind == "flex_attention":
        return block_mask(row, window)
    return segments(row) if kind == SEGMENTS else visible(row, window)[None, None]


def visible(row: Row, window: int = 0) -> Tensor:
    """[T, T] bool: which token (first axis) sees which (second). The other masks mean the same."""
    return _seen(row.segment, row.parent, row.position_ids, window)


def _seen(segment: Tensor, parent: Tensor, position: Tensor, window: int) -> Tensor:
    order = torch.arange(len(segment), device=segment.device)
    own = segment[:, None] == segment[None, :]
    seen = (own | (parent[:, None] == segment[None, :])) & (order[:, None] >= order[None, :])
    return seen & (position[:, None] - position[None, :] < window) if window else seen


def block_mask(row: Row, window: int = 0) -> object:
    """A FlexAttention BlockMask [1, 1, T, T] from the tables that ``pack`` put into the row; no kernel runs for it."""
    from torch.nn.attention.flex_attention import BlockMask

    segment, parent, position, length = row.segment, row.parent, row.position_ids, row.length

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ((segment[key] == segment[query]) | (segment[key] == parent[query])) & (query >= key)

    def sees_near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees(batch, head, query, key) & (position[query] - position[key] < window)

    tables = row.blocks(windowed=window > 0)
    return BlockMask((length, length), *tables, BLOCK_SIZE=(BLOCK, BLOCK), mask_mod=sees_near if window else sees)


def refuse_dense_fallback() -> None:
    """Makes FlexAttention's silent fallback an error: without its kernel it computes all T² scores in many small operations."""
    torch._dynamo.config.recompile_limit = GRAPHS  # torch's default of 8 is too low for two kinds of layers: the run would fail
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    warnings.filterwarnings("error", message="flex_attention called without torch.compile")


def segments(row: Row) -> Tensor:
    """The mask for ``by_segments``: [1, 1, 1, 4k] int64, the spans of the row's pairs.

    It has four axes because transformers passes a 4D mask on unchanged. It is not a view: a compiled graph would guard its base.
    """
    return torch.tensor([[[[number for span in row.spans for number in span]]]], dtype=torch.int64, device=row.buffer.device)


def is_spans(mask: Tensor) -> bool:
    """Whether it is one of ``segments``."""
    return mask.dtype == torch.int64 and mask.ndim == 4


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
    is_ours, window = attention_mask is not None and is_spans(attention_mask), getattr(module, WINDOW, 0)
    if not is_ours or dropout or position_bias is not None or kwargs.get("softcap") is not None:
        seen = _visible(attention_mask, query.shape[2], window)[None, None] if is_ours else attention_mask
        extra = {"dropout": dropout, "scaling": scaling, "position_bias": position_bias, **kwargs}
        return sdpa_attention_forward(module, query, key, value, seen, **extra)
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    scale, width = query.shape[-1] ** -0.5 if scaling is None else scaling, value.shape[-1]
    widest = max(query.shape[-1], width)  # the kernel takes one width for all three
    query, key, value = (x if x.shape[-1] == widest else F.pad(x, (0, widest - x.shape[-1])) for x in (query, key, value))
    out, _ = segment_attention(query, key, value, attention_mask.view(-1), scale, getattr(module, ANSWERS, False), window)
    return out[..., :width], None


def _visible(spans: Tensor, length: int, window: int) -> Tensor:
    """[T, T] bool: as ``visible``, from the spans of a row."""
    sizes, order = spans.view(-1, 4)[:, 1:], torch.arange(length)
    ends = sizes.flatten().cumsum(0)
    segment = torch.searchsorted(ends, order, right=True)
    firsts = (sizes[:, :1] * torch.tensor([0, 1, 1])).flatten()  # each segment's first position
    position = order + torch.cat([firsts - ends + sizes.flatten(), -ends[-1:]])[segment]
    return _seen(segment, segment - segment % 3, position, window)


AttentionInterface.register(SEGMENTS, by_segments)
