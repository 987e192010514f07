"""The DPO losses of single pairs, by TRL's names: one number per pair, independent of the rest of its batch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from trl import DPOConfig


@dataclass(frozen=True)
class Ratios:
    """The inputs of a loss; every tensor is [n], one number per pair."""

    chosen: Tensor  # log pi(chosen) - log ref(chosen)
    rejected: Tensor  # log pi(rejected) - log ref(rejected)
    chosen_tokens: Tensor
    rejected_tokens: Tensor


def pair_losses(args: DPOConfig, ratios: Ratios) -> Tensor:
    """[n]: the weighted sum of the losses of ``args.loss_type`` for every pair."""
    scores = _scores(args, ratios)
    weights = args.loss_weights or [1.0] * len(args.loss_type)
    losses = (_OF_ONE[name](args, ratios, *scores) for name in args.loss_type)
    return functools.reduce(
        torch.add, (loss if weight == 1 else weight * loss for loss, weight in zip(losses, weights, strict=True))
    )


def loss_of_pair(args: DPOConfig, chosen: float, rejected: float, tokens: int) -> float | None:
    """The loss of a step whose answers all have ``tokens`` tokens and these log-ratios of policy to reference, in nats.

    None if the loss depends on more than that.
    """
    if not set(args.loss_type) <= _OF_ONE.keys() or args.use_weighting:
        return None
    one, count = torch.ones(1, dtype=torch.float64), torch.full((1,), float(tokens), dtype=torch.float64)
    return float(pair_losses(args, Ratios(chosen * one, rejected * one, count, count)))


def smoothed(types: Sequence[str], weights: Sequence[float], smoothing: float) -> tuple[list[str], list[float]]:
    """TRL's losses whose sum is sigmoid with label smoothing, which TRL leaves out for sigmoid.

    With L(x) = -log sigmoid(x), so that L(-x) = L(x) + x, the smoothed loss (1 - e) L(x) + e L(-x) and TRL's robust
    ((1 - e) L(x) - e L(-x)) / (1 - 2e) give: smoothed = (2 - 2e) sigmoid - (1 - 2e) robust.
    """
    terms = [
        term
        for name, weight in zip(types, weights, strict=True)
        for term in (
            [(name, weight * (2 - 2 * smoothing)), ("robust", -weight * (1 - 2 * smoothing))]
            if name == "sigmoid" and smoothing
            else [(name, weight)]
        )
    ]
    return [name for name, _ in terms], [weight for _, weight in terms]


def _scores(args: DPOConfig, ratios: Ratios) -> tuple[Tensor, Tensor]:
    """f'(pi / ref) of both answers: f-DPO, Wang et al. (arXiv 2309.16240); reverse KL is DPO itself."""
    kind, alpha = args.f_divergence_type, args.f_alpha_divergence_coef
    both = (ratios.chosen, ratios.rejected)
    if kind == "forward_kl":
        return both[0].neg().exp().neg() + 1, both[1].neg().exp().neg() + 1
    if kind == "js_divergence":
        return math.log(2) + F.logsigmoid(both[0]), math.log(2) + F.logsigmoid(both[1])
    if kind == "alpha_divergence" and abs(alpha - 1) >= 1e-6:
        first, second = (torch.expm1(torch.clamp((alpha - 1) * x, max=80.0)) / (alpha - 1) for x in both)
        return first, second
    return both


def _sigmoid(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 7 of DPO (arXiv 2305.18290); with ``label_smoothing`` equation 3 of the note on conservative DPO."""
    return _smoothed(args.beta * (chosen - rejected), args.label_smoothing)


def _smoothed(logits: Tensor, smoothing: float) -> Tensor:
    if not smoothing:
        return -F.logsigmoid(logits)
    return -(1 - smoothing) * F.logsigmoid(logits) - smoothing * F.logsigmoid(-logits)


def _hinge(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """SLiC, section 2 of arXiv 2309.06657."""
    return torch.relu(1 - args.beta * (chosen - rejected))


def _means(r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    return chosen / r.chosen_tokens.clamp(min=1) - rejected / r.rejected_tokens.clamp(min=1)


def _ipo(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 17 of arXiv 2310.12036, on means over tokens as its authors use it."""
    return (_means(r, chosen, rejected) - 1 / (2 * args.beta)) ** 2


def _sigmoid_norm(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """DPO's loss on means over tokens, as in Tulu 3 (arXiv 2411.15124)."""
    return -F.logsigmoid(args.beta * _means(r, chosen, rejected))


def _exo_pair(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 16 of arXiv 2402.00856: KL of the policy's preference from the smoothed label."""
    logits, smoothing = args.beta * (chosen - rejected), args.label_smoothing
    better = logits.sigmoid() * (F.logsigmoid(logits) - math.log1p(-smoothing))
    return better + (-logits).sigmoid() * (F.logsigmoid(-logits) - math.log(smoothing))


def _nca_pair(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Section 3 of arXiv 2402.05369."""
    up, down = args.beta * r.chosen, args.beta * r.rejected
    return -F.logsigmoid(up) - 0.5 * F.logsigmoid(-up) - 0.5 * F.logsigmoid(-down)


def _robust(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 12 of arXiv 2403.00409: unbiased where a share ``label_smoothing`` of the labels is flipped."""
    logits, flipped = args.beta * (chosen - rejected), args.label_smoothing
    return (-(1 - flipped) * F.logsigmoid(logits) + flipped * F.logsigmoid(-logits)) / (1 - 2 * flipped)


def _bco_pair(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """arXiv 2404.04656, without its running shift, as TRL computes it."""
    return -F.logsigmoid(args.beta * r.chosen) - F.logsigmoid(-args.beta * r.rejected)


def _sppo_hard(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 4.7 of arXiv 2405.00675, with probability 1 for the chosen answer."""
    return (r.chosen - 0.5 / args.beta) ** 2 + (r.rejected + 0.5 / args.beta) ** 2


def _apo_zero(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 7 of arXiv 2408.06266."""
    return 1 - (args.beta * r.chosen).sigmoid() + (args.beta * r.rejected).sigmoid()


def _apo_down(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 8 of arXiv 2408.06266."""
    return (args.beta * r.chosen).sigmoid() + 1 - (args.beta * (r.chosen - r.rejected)).sigmoid()


def _discopop(args: DPOConfig, r: Ratios, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Equation 5 of arXiv 2406.08414."""
    logits = args.beta * (chosen - rejected)
    share = (logits / args.discopop_tau).sigmoid()
    return -F.logsigmoid(logits) * (1 - share) + (-logits).exp() * share


LOSSES: Final[dict[str, Callable[[Any, Ratios, Tensor, Tensor], Tensor]]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "robust": _robust,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
    "sigmoid_norm": _sigmoid_norm,
}  # aot sorts a batch and sft is a mean over its tokens: they need the whole batch, and take the plain path
# Over pairs with the same log-ratios, which sorting leaves alone, aot is sigmoid.
_OF_ONE: Final = {**LOSSES, "aot": _sigmoid, "aot_unpaired": _sigmoid}
