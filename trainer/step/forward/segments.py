"""Attention over a packed row on a CPU, by segments: masked scores are not computed.

A pair's prompt and chosen answer take one causal call of torch's fused kernel. The rejected answer takes two: over itself and
over the prompt. So does the chosen answer if the prompt's outputs are not read. Two parts of a softmax are joined by the
logarithms of their sums (Milakov and Gimelshein, arXiv 1805.02867), and the backward pass of each part takes the joined sums
(Dao et al., arXiv 2205.14135, section B.2). Where keys have fewer heads than queries, the kernel reads them several times;
nothing is repeated or copied.

In a layer with a sliding window, a segment longer than the window is computed in chunks of queries, each over the keys that some
of its queries see.

Both passes are operators that ``torch.compile`` does not trace. They read the lengths of a row's segments from a tensor, so a
graph does not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
CHUNK: Final = 256  # queries of a call with a sliding window, at least: each call costs as much as some 50 queries


class Part(NamedTuple):
    """One call of the kernel."""

    asking: slice  # its queries' tokens
    seen: slice  # its keys' tokens
    joins: bool  # whether its queries have seen keys in an earlier part
    is_causal: bool = False
    mask: Tensor | None = None  # [queries, keys] bool: which query sees which key; None: all, up to itself if ``is_causal``


@torch.library.custom_op("dpo::segment_attention", mutates_args=(), device_types="cpu")
def segment_attention(
    query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float, answers: bool = False, window: int = 0
) -> tuple[Tensor, Tensor]:
    """(the output, [1, T, heads, d]; the logarithm of the sum of each query's exponentials, [1, heads, T]).

    ``query``: [1, heads, T, d]; ``key`` and ``value``: [1, heads of keys, T, d]. ``spans``: int64, the four numbers of each
    pair's ``Span``, one pair after another. A token of no pair has an output of 0; ``answers``: so has one of a prompt.
    ``window``: tokens that a token sees, itself among them; 0: all before it.
    """
    found = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
    sums = query.new_zeros(query.shape[:3], dtype=_wide(query))
    out = found.transpose(1, 2)
    for asking, seen, joins, is_causal, mask in _parts(spans, answers, window):
        part, total = _kernel(
            query[:, :, asking],
            key[:, :, seen],
            value[:, :, seen],
            0.0,
            is_causal,
            attn_mask=_added(mask, query),
            scale=scale,
        )
        if joins:
            part_sum, total = total, torch.logaddexp(total, sums[:, :, asking])
            part = out[:, :, asking].lerp(part, (part_sum - total).exp()[..., None].to(part.dtype))
        out[:, :, asking], sums[:, :, asking] = part, total
    return found, sums


@torch.library.custom_op("dpo::segment_attention_backward", mutates_args=(), device_types="cpu")
def _segment_attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    sums: Tensor,
    spans: Tensor,
    scale: float,
    answers: bool,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``query``, ``key`` and ``value``; ``grad`` is that of ``out``, [1, T, heads, d]."""
    found = [_lying_by_token(one) for one in (query, key, value)]
    queries, keys, values = found
    grad, out = grad.transpose(1, 2), out.transpose(1, 2)

    for asking, seen, _, is_causal, mask in _parts(spans, answers, window):
        of_query, of_key, of_value = _kernel_backward(
            grad[:, :, asking],
            query[:, :, asking],
            key[:, :, seen],
            value[:, :, seen],
            out[:, :, asking],
            sums[:, :, asking],
            0.0,
            is_causal,
            attn_mask=_added(mask, query),
            scale=scale,
        )
        queries[:, :, asking] += of_query
        keys[:, :, seen] += of_key
        values[:, :, seen] += of_value
    return queries, keys, values


def _parts(spans: Tensor, answers: bool, window: int) -> Iterator[Part]:
    """The kernel calls of a row; a segment without tokens has none.

    A chosen answer is computed with its prompt, unless only ``answers`` are wanted.
    """
    for begin, shared, chosen, rejected in spans.view(-1, 4).tolist():
        prompt, middle = slice(begin, begin + shared), begin + shared + chosen
        first = (slice(prompt.stop, middle), prompt) if answers else (slice(begin, middle), slice(begin, begin))
        for own, before in (first, (slice(middle, middle + rejected), prompt)):
            count, shared_by = own.stop - own.start, before.stop - before.start
            if not count:
                continue
            if not 0 < window < count:
                yield Part(own, own, joins=False, is_causal=True)
            else:
                yield from _chunks(own, own, 0, window)
            if shared_by and not 0 < window < shared_by + count:
                yield Part(own, before, joins=True)
            elif shared_by:
                yield from _chunks(own, before, shared_by, window)


def _chunks(asking: slice, seen: slice, ahead: int, window: int) -> Iterator[Part]:
    """Chunks of queries that see a key of ``seen`` within ``window``; the first query is ``ahead`` tokens after the first key."""
    keys = seen.stop - seen.start
    count, step = min(asking.stop - asking.start, keys + window - 1 - ahead), max(window, CHUNK)
    for begin in range(0, count, step):
        end = min(begin + step, count)
        first, last = max(0, ahead + begin - window + 1), min(keys, ahead + end)
        distance = torch.arange(ahead + begin, ahead + end)[:, None] - torch.arange(first, last)
        yield Part(
            slice(asking.start + begin, asking.start + end),
            slice(seen.start + first, seen.start + last),
            joins=ahead > 0,
            mask=(distance >= 0) & (distance < window),
        )


def _added(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """The mask as numbers that the kernel adds to its scores."""
    return None if mask is None else torch.zeros(mask.shape, dtype=like.dtype).masked_fill_(~mask, -torch.inf)


def _wide(tensor: Tensor) -> torch.dtype:
    """The type of the kernel's sums for tensors of this type."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _lying_by_token(like: Tensor) -> Tensor:
    """Zeros of shape [1, heads, T, d] in the memory layout [1, T, heads, d], in which projections write."""
    batch, heads, length, width = like.shape
    return like.new_zeros(batch, length, heads, width).transpose(1, 2)


@segment_attention.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float, answers: bool = False, window: int = 0
) -> tuple[Tensor, Tensor]:
    batch, heads, length, width = query.shape
    return query.new_empty(batch, length, heads, width), query.new_empty(batch, heads, length, dtype=_wide(query))


@_segment_attention_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys, values = (_lying_by_token(one) for one in (query, key, value))
    return queries, keys, values


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, spans, ctx.scale, ctx.answers, ctx.window = inputs
    ctx.save_for_backward(query, key, value, *output, spans)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    *kept, spans = ctx.saved_tensors
    return *_segment_attention_backward(grad, *kept, spans, ctx.scale, ctx.answers, ctx.window), None, None, None, None


segment_attention.register_autograd(_gradients, setup_context=_keep)
