"""The first step of a fresh policy: policy and reference are equal before it, so its loss and its rewards are known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from trl import DPOConfig

from ...inputs.models.adapter import copied
from ...inputs.models.dropout import drawn
from .losses import loss_of_pair

SIGMAS: Final = 4.0
# Least noise of a log-probability, in nats for each square root of a token: what rows of other lengths make of rounding.
LEAST: Final = {torch.float32: 5e-6, torch.float16: 5e-4, torch.bfloat16: 2e-3}
_STEP: Final = 1e-3  # nats, for slopes


@dataclass(frozen=True)
class Expected:
    """What the first step must show. ``loss`` is None where it is not one number for all pairs."""

    loss: float | None
    loss_within: float
    rewards_within: float


def expected(args: DPOConfig, noise: float, answers: tuple[int, int], pairs: int) -> Expected:
    """The first loss and the first rewards, and how far rounding may take them.

    ``answers``: tokens of the shortest and the longest answer; ``pairs`` are in the step. The reference saw the same sequences in
    other rows, so the log-probability of an answer of T tokens differs by rounding errors of single tokens, which add up as their
    square root: a standard deviation of ``noise`` * sqrt(T) nats. The mean reward of n pairs has beta * noise * sqrt(T / n). The
    mean loss has that of its first-order term, with the slopes of the loss at zero margin, and a second-order term that pairs do
    not average out. Four standard deviations are allowed.
    """
    most = noise * math.sqrt(answers[1])
    losses = [_loss_within(args, noise * math.sqrt(count), count, pairs) for count in answers]
    loss = loss_of_pair(args, 0.0, 0.0, answers[1])
    return Expected(
        loss=loss,
        loss_within=max((one for one in losses if one is not None), default=math.inf),
        rewards_within=SIGMAS * args.beta * most / math.sqrt(pairs),
    )


def _loss_within(args: DPOConfig, sigma: float, tokens: int, pairs: int) -> float | None:
    """``sigma``: the standard deviation of an answer's log-probability of ``tokens`` tokens, in nats."""
    middle = loss_of_pair(args, 0.0, 0.0, tokens)
    if middle is None:
        return None
    slopes, bends = [], []
    for chosen, rejected in ((_STEP, 0.0), (0.0, _STEP)):
        up, down = (float(loss_of_pair(args, sign * chosen, sign * rejected, tokens) or 0.0) for sign in (1, -1))
        slopes.append((up - down) / (2 * _STEP))
        bends.append(abs(up + down - 2 * middle) / _STEP**2)
    rounding = 1e-6 * max(1.0, abs(middle))  # of the loss itself, which is logged as fp32
    return SIGMAS * sigma * math.hypot(*slopes) / math.sqrt(pairs) + sum(bends) * sigma**2 / 2 + rounding


def wrong(figures: Mapping[str, float], known: Expected, threshold: float | None) -> Iterator[str]:
    """One clause for each metric of the first step that is not as expected.

    ``figures``: means over the pairs of the step. ``threshold``: the deviation that the experiment allows; then only the loss is
    checked.
    """
    within = known.loss_within if threshold is None else threshold
    loss, rewards = figures["loss"], [figures[f"rewards/{name}"] for name in ("chosen", "rejected")]
    if known.loss is not None and abs(loss - known.loss) > within:
        yield f"the first loss is {loss:.7f}, expected {known.loss:.7f} (± {within:.1g})"
    if threshold is None and max(map(abs, rewards)) > known.rewards_within:
        found = f"{rewards[0]:+.4g} (chosen) and {rewards[1]:+.4g} (rejected)"
        yield f"the first rewards are {found}, expected 0 (± {known.rewards_within:.1g})"


def is_fresh(model: torch.nn.Module) -> bool:
    """Whether no adapter changes the model yet."""
    if not isinstance(model, PeftModel):
        return True
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    if any(_differs(wrapper) for wrapper in copied(model)):
        return False
    return not any(
        a.any() and b.any()
        for layer in layers
        for a, b in zip(_weights(layer, "A"), _weights(layer, "B"), strict=True)
        if a.numel() and b.numel()  # the shards of ZeRO 3 are empty
    )


def _differs(wrapper: Any) -> bool:
    """Whether the trained copy of a module differs from the original."""
    own = dict(wrapper.original_module.named_parameters())
    copy = wrapper.modules_to_save["default"].named_parameters()
    return any(not torch.equal(tensor, own[name].to(tensor.dtype)) for name, tensor in copy)


def _weights(layer: Any, half: str) -> list[torch.Tensor]:
    linear = [module.weight for module in getattr(layer, f"lora_{half}").values()]
    return linear + list(getattr(layer, f"lora_embedding_{half}").values())


def causes(model: torch.nn.Module, args: DPOConfig, *, fresh: bool, is_continued: bool = False) -> list[str]:
    """Possible reasons why policy and reference differ before the first step.

    ``is_continued``: the adapter was trained before, and the reference has it too.
    """
    random = drawn(model, with_adapter=not fresh)
    found = []
    if random:
        setting = "" if args.disable_dropout else " (disable_dropout: false)"
        found.append(f"dropout or noise is on in training and off in the reference: {', '.join(random)}{setting}")
    if args.neftune_noise_alpha:
        found.append(f"neftune_noise_alpha: {args.neftune_noise_alpha:g} adds noise to the embeddings in training")
    if not fresh and not is_continued:
        found.append("the adapter was not fresh: its weights already changed the model")
    return found
