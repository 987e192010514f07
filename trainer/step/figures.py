"""The figures of a log line: sums over pairs on the device, reduced over the ranks once per line and not once per batch."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from .packing import Row

_PAIRS: Final = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
)


class Figures:
    """Sums over pairs and over tokens; the names and their meanings are TRL's."""

    def __init__(self, device: torch.device, noise: float):
        """``noise``: a margin up to it, in rewards, is rounding: no preference, and not counted as one."""
        self._noise = noise
        # float64: after a million pairs the next one still counts. Pairs, their seven sums, then the six of the tokens.
        self._sums = torch.zeros(1 + len(_PAIRS) + 6, dtype=torch.float64, device=device)

    def add(self, row: Row, output: FusedCausalLMOutput, logps: Tensor, rewards: Tensor, losses: Tensor) -> None:
        """``logps`` and ``rewards``: [k, 2], ``losses``: [k]; no value leaves the device."""
        margins = rewards[:, 0] - rewards[:, 1]
        of_pairs = torch.stack(
            [losses, rewards[:, 0], rewards[:, 1], (margins > self._noise).double(), margins, logps[:, 0], logps[:, 1]]
        )
        is_chosen = (row.answer % 2 == 0).double()
        logits = output.mean_logits.double()
        of_tokens = [
            is_chosen.sum(),
            (1 - is_chosen).sum(),
            output.entropy.detach().double().sum(),
            (logits * is_chosen).sum(),
            (logits * (1 - is_chosen)).sum(),
            (output.is_top1.double() * is_chosen).sum(),
        ]
        pairs = losses.new_full((1,), losses.numel())
        self._sums += torch.cat([pairs, of_pairs.sum(1), torch.stack(of_tokens)])

    def mark(self) -> Tensor:
        """What was added so far, for ``back_to``."""
        return self._sums.clone()

    def back_to(self, mark: Tensor) -> None:
        """Forgets what was added since: a step that is computed again is counted once."""
        self._sums = mark.clone()

    def means(self, accelerator: Any) -> dict[str, float]:
        """Means over all that was added on any rank since the last call; rewards are in nats times beta, logps in nats."""
        sums = accelerator.reduce(self._sums, reduction="sum").tolist()
        self._sums = torch.zeros_like(self._sums)
        pairs, of_pairs, of_tokens = sums[0], sums[1 : 1 + len(_PAIRS)], sums[1 + len(_PAIRS) :]
        chosen, rejected, entropy, logits_chosen, logits_rejected, top1 = of_tokens
        means = {name: value / max(pairs, 1) for name, value in zip(_PAIRS, of_pairs, strict=True)}
        return means | {
            "entropy": entropy / max(chosen + rejected, 1),
            "logits/chosen": logits_chosen / max(chosen, 1),
            "logits/rejected": logits_rejected / max(rejected, 1),
            "mean_token_accuracy": top1 / max(chosen, 1),
        }
