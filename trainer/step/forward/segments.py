"""Attention over a packed row on a CPU, by segments: nothing is computed of what a token does not see.

A pair's prompt and chosen answer are one causal call of torch's fused kernel. Its rejected answer is two: over itself, and over
the prompt; so is its chosen answer where nobody reads the prompt's outputs. Two parts of a softmax are joined by the logarithms
of their sums (Milakov and Gimelshein, arXiv 1805.02867), and the kernel's backward pass takes the sums of the whole for each part
(Dao et al., arXiv 2205.14135, section B.2). Where keys have fewer heads than queries, the kernel reads them several times;
nothing is repeated or copied.

Both passes are operators that ``torch.compile`` does not look into: they read the lengths of a row's segments from a tensor, so
these are no constants of a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@torch.library.custom_op("dpo::segment_attention", mutates_args=(), device_types="cpu")
def segment_attention(
    query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float, answers: bool = False
) -> tuple[Tensor, Tensor]:
    """(the output, [1, T, heads, d]; the logarithm of the sum of each query's exponentials, [1, heads, T]).

    ``query``: [1, heads, T, d]; ``key`` and ``value``: [1, heads of keys, T, d]. ``spans``: int64, the four numbers of each
    pair's ``Span``, one pair after another. A token of no pair has an output of 0; ``answers``: so has one of a prompt.
    """
    found = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
    sums = query.new_zeros(query.shape[:3], dtype=_wide(query))
    out = found.transpose(1, 2)
    for own, prompt in _parts(spans, answers):
        part, total = _seen(query, key, value, own, own, scale, is_causal=True)
        if prompt.stop > prompt.start:
            other, other_sum = _seen(query, key, value, own, prompt, scale, is_causal=False)
            total = torch.logaddexp(total, other_sum)
            part = part.lerp(other, (other_sum - total).exp()[..., None].to(part.dtype))
        out[:, :, own], sums[:, :, own] = part, total
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
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``query``, ``key`` and ``value``; ``grad`` is that of ``out``, [1, T, heads, d]."""
    found = [_lying_by_token(one) for one in (query, key, value)]
    queries, keys, values = found
    grad, out = grad.transpose(1, 2), out.transpose(1, 2)

    def add(asking: slice, seen: slice, *, is_causal: bool) -> None:
        of_query, of_key, of_value = _kernel_backward(
            grad[:, :, asking],
            query[:, :, asking],
            key[:, :, seen],
            value[:, :, seen],
            out[:, :, asking],
            sums[:, :, asking],
            0.0,
            is_causal,
            scale=scale,
        )
        queries[:, :, asking] += of_query
        keys[:, :, seen] += of_key
        values[:, :, seen] += of_value

    for own, prompt in _parts(spans, answers):
        add(own, own, is_causal=True)
        if prompt.stop > prompt.start:
            add(own, prompt, is_causal=False)
    return queries, keys, values


def _parts(spans: Tensor, answers: bool) -> Iterator[tuple[slice, slice]]:
    """(tokens that see each other up to themselves, the prompt that all of them see beside), without parts of no tokens.

    A chosen answer is one part with its prompt, unless only ``answers`` are wanted.
    """
    for begin, shared, chosen, rejected in spans.view(-1, 4).tolist():
        prompt, middle = slice(begin, begin + shared), begin + shared + chosen
        first = (slice(prompt.stop, middle), prompt) if answers else (slice(begin, middle), slice(begin, begin))
        parts = (first, (slice(middle, middle + rejected), prompt))
        yield from (part for part in parts if part[0].stop > part[0].start)


def _seen(
    query: Tensor, key: Tensor, value: Tensor, asking: slice, seen: slice, scale: float, *, is_causal: bool
) -> tuple[Tensor, Tensor]:
    """(the output, [1, heads, n, d]; the sums, [1, heads, n]) of the queries at ``asking``, over the keys at ``seen``."""
    out, sums = _kernel(query[:, :, asking], key[:, :, seen], value[:, :, seen], 0.0, is_causal, scale=scale)
    return out, sums


def _wide(tensor: Tensor) -> torch.dtype:
    """The type of its kernel's sums."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _lying_by_token(like: Tensor) -> Tensor:
    """Zeros of the shape [1, heads, T, d] that lie as [1, T, heads, d], as what a projection has made."""
    batch, heads, length, width = like.shape
    return like.new_zeros(batch, length, heads, width).transpose(1, 2)


@segment_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, spans: Tensor, scale: float, answers: bool = False) -> tuple[Tensor, Tensor]:
    batch, heads, length, width = query.shape
    return query.new_empty(batch, length, heads, width), query.new_empty(batch, heads, length, dtype=_wide(query))


@_segment_attention_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys, values = (_lying_by_token(one) for one in (query, key, value))
    return queries, keys, values


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, spans, ctx.scale, ctx.answers = inputs
    ctx.save_for_backward(query, key, value, *output, spans)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    *kept, spans = ctx.saved_tensors
    return *_segment_attention_backward(grad, *kept, spans, ctx.scale, ctx.answers), None, None, None


segment_attention.register_autograd(_gradients, setup_context=_keep)
