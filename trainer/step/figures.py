"""The figures of a log line: sums over pairs on the device, reduced over the ranks once per line and not once per batch."""

from __future__ import annotations

from collections.abc import Mapping
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


_PER: Final = {"entropy": "both", "logits/chosen": "chosen", "logits/rejected": "rejected", "mean_token_accuracy": "chosen"}


class Averages:
    """Means over pairs, or over their answers' tokens, of the figures that TRL computes for each micro-batch."""

    def __init__(self, device: torch.device):
        self._device = device
        self._sums: dict[str, Tensor] = {}  # name -> [2] float64: the sum, and over how many pairs or tokens

    def add(self, figures: Mapping[str, float | Tensor], pairs: int, mask: Tensor) -> None:
        """``figures``: means over ``pairs`` pairs; 0 pairs where they count nothing.

        ``mask``, [2 * pairs, T]: where a token of a chosen answer is predicted, then the same for the rejected answers. Entropy,
        logits and token accuracy are means over such tokens.
        """
        chosen, rejected = (part.sum(dtype=torch.float64) for part in mask.chunk(2))
        tokens = {"chosen": chosen, "rejected": rejected, "both": chosen + rejected}
        for name, mean in figures.items():
            count = tokens[_PER[name]] if name in _PER else torch.tensor(pairs, dtype=torch.float64, device=self._device)
            value = torch.as_tensor(mean, dtype=torch.float64, device=self._device)
            total = torch.where(count > 0, value * count, 0.0)  # what counts nothing may be NaN
            self._sums[name] = self._sums.get(name, 0) + torch.stack([total, count])

    def means(self, accelerator: Any) -> dict[str, float]:
        """Means over all that was added on any rank since the last call; all ranks must come here."""
        names, sums = sorted(self._sums), self._sums
        self._sums = {}
        if not names:
            return {}
        totals, counts = accelerator.reduce(torch.stack([sums[name] for name in names], 1), reduction="sum").tolist()
        return {name: total / max(count, 1) for name, total, count in zip(names, totals, counts, strict=True)}

    def peek(self, accelerator: Any) -> dict[str, float]:
        """``means``, and nothing is forgotten."""
        sums = self._sums
        found = self.means(accelerator)
        self._sums = sums
        return found

    def forget(self) -> None:
        self._sums = {}


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

    def peek(self, accelerator: Any) -> dict[str, float]:
        """``means``, and nothing is forgotten."""
        sums = self._sums
        found = self.means(accelerator)
        self._sums = sums
        return found

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
