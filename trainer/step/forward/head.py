"""The head of a packed row if it is frozen: two matrix products per token; TRL's kernel takes three.

The gradient of log p(target) with respect to the logits is onehot(target) - p, whatever the loss. It is multiplied by the head's
weights while the logits are in memory, and only this product is kept: the backward pass multiplies it by the gradient of the
log-probabilities and recomputes no logits. Liger's cross entropy does the same for a single loss (arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from trl.kernels import chunked_logprob as of_trl

from launcher.planning.sizes.activations import TILE, frozen_rows

ALIGNED: Final = 64  # words: rows of logits begin where a matrix product is fast

# log p(target), entropy, mean logit, whether the target is the most likely token: [n] each, None if not wanted
Figures = tuple[Tensor | None, ...]
# ... and the gradient of the first one with respect to the hidden states, [n, H]; None where nobody needs it
Folded = tuple[Figures, Tensor | None]


@dataclass(frozen=True)
class Logits:
    """The logits by the head's product y: cap * tanh(y * scale / cap) / temperature; y * scale / temperature without a cap.

    ``outputs``: the metrics that are wanted, by TRL's names.
    """

    temperature: float
    scale: float
    cap: float | None
    outputs: tuple[str, ...]


def is_frozen(model: Any) -> bool:
    """Whether the head of ``model`` is frozen: neither its weights nor a copy of them nor an adapter on them is trained."""
    head = model.get_output_embeddings()
    return head is not None and not any(parameter.requires_grad for parameter in head.parameters())


def frozen_head(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits) -> Figures:
    """Log-probability, entropy, mean logit and top-1 of ``targets``, [n] each; the first has a gradient, for ``hidden`` alone.

    ``hidden``: [n, H], ``weight``: [V, H], ``bias``: [V]. Products are
    computed in autocast's type, or in that of ``hidden`` without autocast.
    """
    device = hidden.device.type
    compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    found: Figures = _FrozenHead.apply(hidden, weight, bias, targets, logits, compute)
    return found


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits, compute: torch.dtype
    ) -> Figures:
        fold = by_kernels if of_trl._use_triton(hidden.device) else by_torch
        with torch.autocast(hidden.device.type, enabled=False):  # all types are chosen here
            figures, slope = fold(hidden.to(compute), weight, bias, targets, logits, has_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(slope)
        ctx.type = hidden.dtype
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(one for one in figures[1:] if one is not None))
        return figures

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return None if gradient is None else (gradient[:, None] * slope).to(ctx.type), None, None, None, None, None


def by_torch(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits, *, has_gradient: bool
) -> Folded:
    """The head in torch operations: on a CPU, and without Triton."""
    weight, bias = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
    rows = frozen_rows(len(hidden), len(weight), cuda=False)
    tile = hidden.new_empty(rows, len(weight))
    slope = torch.empty_like(hidden) if has_gradient else None
    found = []
    for begin in range(0, len(hidden), rows):
        some = slice(begin, begin + rows)
        goals = targets[some, None]
        product = torch.mm(hidden[some], weight.t(), out=tile[: len(goals)])
        if bias is not None:
            product.add_(bias)
        z, bend = _shaped(product, logits)
        shares = torch.softmax(z, -1)
        found.append(_figures(z, shares, goals, logits.outputs))
        if slope is not None:
            shares.scatter_add_(-1, goals, shares.new_full(goals.shape, -1.0))
            if bend is not None:
                shares.mul_(bend)
            torch.mm(shares.to(hidden.dtype), weight, out=slope[some])
    if slope is not None:
        slope.mul_(-logits.scale / logits.temperature)
    figures = (None if parts[0] is None else torch.cat(parts) for parts in zip(*found, strict=True))
    return tuple(figures), slope


def _shaped(product: Tensor, logits: Logits) -> tuple[Tensor, Tensor | None]:
    """(the logits in 32 bits or more, in the memory of ``product``; 1 - tanh², the cap's derivative, None without a cap)."""
    z, bend = product if product.element_size() > 2 else product.float(), None
    if logits.scale != 1:
        z.mul_(logits.scale)
    if logits.cap is not None:
        bend = 1 - z.div_(logits.cap).tanh_().square()
        z.mul_(logits.cap)
    if logits.temperature != 1:
        z.div_(logits.temperature)
    return z, bend


def _figures(z: Tensor, shares: Tensor, goals: Tensor, wanted: tuple[str, ...]) -> Figures:
    """Of logits and their softmax, [n, V], for ``goals``, [n, 1]."""
    # The largest share is exp(top - log_sum). Not the log of the target's share: a small one has lost its digits.
    log_sum = z.amax(-1) - shares.amax(-1).log()
    return (
        z.gather(-1, goals)[:, 0] - log_sum,
        log_sum - torch.linalg.vecdot(shares, z) if "entropy" in wanted else None,
        z.mean(-1) if "mean_logits" in wanted else None,
        z.argmax(-1) == goals[:, 0] if "is_top1" in wanted else None,
    )


def by_kernels(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits, *, has_gradient: bool
) -> Folded:
    """The head by TRL's two Triton kernels: few tokens and all words per call; TRL's own loop takes many tokens and few words.

    The second kernel needs the sum over the vocabulary, which the first has computed while the logits are still in memory.
    """
    count, words = len(hidden), len(weight)
    rows = frozen_rows(count, words, cuda=True)
    tile = hidden.new_empty(rows, -(-words // ALIGNED) * ALIGNED)[:, :words]
    sums = torch.zeros(7, count, dtype=torch.float32, device=hidden.device)
    sums[0], sums[5] = float("-inf"), float("-inf")  # the largest logit, and the largest before the target's word
    slope = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device) if has_gradient else None
    for begin in range(0, count, rows):
        some = slice(begin, begin + rows)
        part = tile[: len(targets[some])]
        for span, own in _spans(weight, hidden.dtype):
            torch.mm(hidden[some], own.t(), out=part[:, span])
        if bias is not None:
            part.add_(bias.to(hidden.dtype))
        now = [one[some] for one in sums]
        _first(part, targets[some], now, logits)
        if slope is not None:
            _second(part, targets[some], now[0] + now[1].log(), logits)
            for span, own in _spans(weight, hidden.dtype):
                of_trl._addmm_fp32(slope[some], part[:, span], own)
    top, sum_exp, weighted, _, total, before, at_goal = sums
    log_sum, wanted = top + sum_exp.log(), logits.outputs
    figures = (
        at_goal - log_sum,
        log_sum - weighted / sum_exp if "entropy" in wanted else None,
        total / words if "mean_logits" in wanted else None,
        (at_goal >= top) & (at_goal > before) if "is_top1" in wanted else None,
    )
    return figures, slope


def _spans(weight: Tensor, compute: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """(words, their weights in the type ``compute``): all at once, or as many as TRL casts at once."""
    size = len(weight) if weight.dtype == compute else TILE[1]
    for begin in range(0, len(weight), size):
        span = slice(begin, begin + size)
        yield span, weight[span].to(compute)


def _first(tile: Tensor, targets: Tensor, sums: list[Tensor], logits: Logits) -> None:
    """Adds the logits of all words to ``sums``."""
    kernel = of_trl._forward_kernel[(len(tile),)] if of_trl._use_triton(tile.device) else of_trl._forward_tile
    wanted = {f"HAS_{name.upper()}": name in logits.outputs for name in of_trl.OPTIONAL_OUTPUTS}
    kernel(tile, tile.stride(0), targets, *sums, 0, tile.shape[1], BLOCK_SIZE=of_trl._BLOCK_SIZE, **wanted, **_kernel(logits))


def _second(tile: Tensor, targets: Tensor, log_sum: Tensor, logits: Logits) -> None:
    """Overwrites the product with d log p(target) / d product."""
    grid, one = (len(tile), -(-tile.shape[1] // of_trl._BLOCK_SIZE)), torch.ones_like(log_sum)
    kernel = of_trl._backward_kernel[grid] if of_trl._use_triton(tile.device) else of_trl._backward_tile
    which = {"HAS_LOGPROB_GRAD": True, "HAS_ENTROPY_GRAD": False, "BLOCK_SIZE": of_trl._BLOCK_SIZE}
    none = log_sum  # for the entropy and its gradient, which is not read
    kernel(tile, tile.stride(0), targets, log_sum, none, one, none, 0, tile.shape[1], **which, **_kernel(logits))


def _kernel(logits: Logits) -> dict[str, Any]:
    """As TRL's kernels take it."""
    capped = {"softcap": logits.cap or 1.0, "HAS_SOFTCAP": logits.cap is not None}
    return {"logit_scale": logits.scale, "inv_t": 1 / logits.temperature, **capped}
