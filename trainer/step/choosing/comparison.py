"""Compares the packed pass with the plain one on a run's first pairs, before the fast path is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from accelerate.utils import gather_object
from torch import Tensor

from ...inputs.tokens.token_pairs import TokenPair, TokenPairs
from ...inputs.tokens.tokens import Tokens
from ...processes.ranks.sharding import callable_model
from ...processes.ranks.sharding import stage as zero_stage
from ..compiling.compiled import reason
from ..dpo import DPOTrainer
from ..forward.halves import Halves
from ..forward.windows import windows
from ..memory import as_in_training
from ..packed import Packed

COMPARED: Final = 2  # pairs, enough for a row with two of them and for two rows


@dataclass(frozen=True)
class Difference:
    """How far the packed pass is from the plain one on the same pairs."""

    logps: float  # nats per square root of a token, the largest of all answers
    loss: float  # absolute
    gradient: float | None  # of the gradient norms, relative to the plain one; None if gradients are sharded

    def beyond(self, *, half: bool) -> bool:
        """Whether the passes compute different things.

        Rounding errors of tokens add up as their square root: about 1e-6 nats per token in fp32 and 1e-2 in 16 bits. A token
        with a wrong mask is off by about one. The loss has no limit of its own: it follows from these log-probabilities, and a
        steep one (sppo_hard, or a large beta) amplifies their rounding.
        """
        logps, gradient = (0.1, 0.1) if half else (1e-4, 1e-3)
        return not (self.logps <= logps and (self.gradient is None or self.gradient <= gradient))

    @property
    def off(self) -> str:
        """Which of the differences are too large."""
        gradient = "" if self.gradient is None else f", gradient off by {self.gradient:.0%}"
        return f"log-probabilities off by up to {self.logps:.1e} per sqrt(token), loss off by {self.loss:.1e}{gradient}"

    def __str__(self) -> str:
        found = _bound("loss", self.loss)
        if self.gradient is None:
            return f"{found}; gradients not compared: the weights are sharded"
        if not (self.loss or self.gradient):
            return "no difference in any digit"
        return f"{found}, {_bound('gradient', self.gradient)}"


@dataclass(frozen=True)
class Numbers:
    """What a pass computes of some pairs."""

    logps: Tensor  # [n, 2] float64: sums of the log-probabilities of (chosen, rejected)
    gradient: float | None  # gradient norm of the loss over all trained weights; None if not computed


def _bound(what: str, number: float) -> str:
    """``loss within 1e-7`` for a difference of 9.5e-8: rounded up to one digit."""
    if number == 0:
        return f"identical {what}"
    if not math.isfinite(number):
        return f"{what} off by {number:g}"
    power = math.floor(math.log10(number))
    digit = math.ceil(number / 10.0**power - 1e-9)
    return f"{what} within 1e{power + 1}" if digit == 10 else f"{what} within {digit}e{power}"


def tried(trainer: DPOTrainer, tokens: Tokens, budget: int, *, is_known: bool) -> tuple[Packed | None, str]:
    """(the packed forward pass if it equals the plain one, else None; a sentence: how close they are, or why not)."""
    if is_known:
        return Packed(trainer.model), "as in the run of the checkpoint"
    pairs = _first(tokens.pairs, max(windows(trainer.model), default=0))
    if zero_stage(trainer) < 3:  # else there are no gradients, for which activations would be kept
        as_in_training(trainer)
    with callable_model(trainer) as called:
        return _compared(trainer, called, pairs, budget)


def _first(pairs: TokenPairs, window: int) -> TokenPairs:
    """The first of ``pairs``; if a sliding ``window`` hides tokens of a longer one, that is the last of them."""
    lengths = pairs.lengths[:, 0] + pairs.lengths[:, 1:].max(axis=1)
    longest = int(lengths.argmax())
    if not 0 < window < lengths[longest] or lengths[:COMPARED].max() > window:
        return pairs[:COMPARED]
    return pairs.take([*range(COMPARED - 1), longest])


def _compared(trainer: DPOTrainer, called: Any, pairs: TokenPairs, budget: int) -> tuple[Packed | None, str]:
    """Like ``tried``, by calling ``called``."""
    plain = _plain(trainer, called, pairs, budget)
    has_gradient = plain.gradient is not None
    packed = Packed(trainer.model)
    try:
        found = packed_numbers(trainer, called, packed, pairs, budget, has_gradient=has_gradient)
        apart = difference(trainer, pairs, plain, found)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's own code may raise anything at the mask, and so may FlexAttention's compiler
        trainer.model.zero_grad()
        apart, why = None, f"the packed forward pass failed: {reason(error)}"
    else:
        what = "loss" if apart.gradient is None else "loss and gradient"
        why = f"same {what} as {trainer.plain_pass} on the first pairs ({apart})"
    half = trainer.args.bf16 or trainer.args.fp16 or trainer.model.dtype != torch.float32
    verdicts = gather_object([apart is None or apart.beyond(half=half)])  # all ranks take the same path
    if not any(verdicts):
        return packed, why
    packed.remove()
    return (
        None,
        why if apart is None else f"packed rows give other results than {trainer.plain_pass} on the first pairs: {apart.off}",
    )


def _plain(trainer: DPOTrainer, called: Any, pairs: TokenPairs, budget: int) -> Numbers:
    """What TRL computes; without a gradient if weights are sharded.

    Pairs are computed one by one if together they need more padded tokens than ``budget``, as memory may be too small.
    """
    padded = pairs.answers * len(pairs) * int(pairs.longest.max())
    parts = [pairs] if padded <= budget else [pairs[n : n + 1] for n in range(len(pairs))]
    has_gradient = zero_stage(trainer) < 3  # an engine without an optimizer has none
    found = []
    for part in parts:
        logps = _padded(trainer, called, part, has_gradient=has_gradient)
        if has_gradient:
            weight = trainer.count_of(part) / trainer.count_of(pairs)
            (trainer.mean_loss(logps, logps.detach(), part) * weight).backward()
        found.append(logps.detach())
    return Numbers(torch.cat(found), gradient_norm(trainer) if has_gradient else None)


def _padded(trainer: DPOTrainer, called: Any, pairs: TokenPairs, *, has_gradient: bool) -> Tensor:
    """[n, 2] log-probabilities of the answers, each in its own sequence with its prompt; 0 for a missing answer."""
    inputs = trainer._prepare_inputs(trainer.data_collator([features(pair) for pair in pairs]))
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    with trainer.accelerator.autocast(), torch.set_grad_enabled(has_gradient):
        output = called(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            fused_lm_head=True,
            use_cache=False,
        )
    found = output.log_probs.double().sum(1).view(pairs.answers, -1).T
    return found if pairs.answers == 2 else torch.cat([found, torch.zeros_like(found)], 1)


def packed_numbers(
    trainer: DPOTrainer,
    called: Any,
    packed: Packed,
    pairs: TokenPairs,
    budget: int,
    *,
    has_gradient: bool = True,
    half: torch.dtype | None = None,
) -> Numbers:
    """What the packed pass computes in rows of ``budget`` tokens.

    The loss's reference is the pass's own log-probabilities. ``half``: dtype of the adapter's copies, see ``halves``; None: no
    copies.
    """
    logps = torch.empty(len(pairs), 2, dtype=torch.float64, device=trainer.accelerator.device)
    with Halves(trainer.model, half).lent() as collect:
        for row in packed.pack(pairs, budget):
            places = list(row.pairs)
            with trainer.accelerator.autocast(), torch.set_grad_enabled(has_gradient):
                sums, _ = packed(called, row.to(logps.device))
            if has_gradient:
                some = pairs.take(places)
                weight = trainer.count_of(some) / trainer.count_of(pairs)
                (trainer.mean_loss(sums, sums.detach(), some) * weight).backward()
                collect()
            logps[places] = sums.detach()
    return Numbers(logps, gradient_norm(trainer) if has_gradient else None)


def difference(trainer: DPOTrainer, pairs: TokenPairs, expected: Numbers, found: Numbers) -> Difference:
    """Compares ``found`` with ``expected``. The reference of both losses are the log-probabilities of ``expected``."""
    logps, reference = found.logps.to(expected.logps.device), expected.logps
    tokens = torch.tensor(pairs.lengths[:, 1:], device=reference.device).clamp(min=1)
    losses = [trainer.mean_loss(one, reference, pairs) for one in (logps, reference)]
    apart = None
    if expected.gradient is not None and found.gradient is not None:
        apart = abs(found.gradient - expected.gradient) / (expected.gradient or 1.0)
    return Difference(
        logps=float(((logps - reference).abs() / tokens.sqrt()).max()),
        loss=float((losses[0] - losses[1]).abs()),
        gradient=apart,
    )


def gradient_norm(trainer: DPOTrainer) -> float:
    """The norm of the gradient, which is then cleared."""
    gradients = [p.grad.double().norm() for p in trainer.model.parameters() if p.grad is not None]
    trainer.model.zero_grad()
    return float(torch.stack(gradients).norm()) if gradients else 0.0


def features(pair: TokenPair) -> dict[str, list[int]]:
    """A pair in the form of TRL's collator."""
    return {"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected}
