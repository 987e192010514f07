"""Rewards of pairs under a loaded model and adapter, without a trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from launcher.runs.run_dir import RunDir

from ..inputs.tokens.token_pairs import TokenPair, TokenPairs
from ..step.memory import row_budget
from ..step.packed import Packed
from .loaded import Found

Tell = Callable[[int], None]
LogProbs = Callable[[Any], Tensor]


class Scorer:
    """A run's saved weights and its reference: the same model with its adapter disabled, or a second model."""

    def __init__(self, run: RunDir, found: Found):
        """Uses the fast path if ``run`` did."""
        self.loaded = found.load(add_fused_lm_head)
        self._device, self._policy = self.loaded.device, self.loaded.model
        self._reference = self.loaded.reference(add_fused_lm_head)
        is_fast = (run.read_record().get("dpo_path") or {}).get("path") == "fast"
        models = {id(model): model for model in (self._policy, self._reference)}
        self._packed = {key: Packed(model) for key, model in models.items()} if is_fast else {}
        self._per_device = self.loaded.experiment.hyperparameters.per_device_train_batch_size

    def rewards(self, pairs: TokenPairs, beta: float, pad: int, tell: Tell) -> Tensor:
        """[n, 2] float64 on the CPU: beta × (log-probability − the reference's) of (chosen, rejected).

        ``pad``: token id for padding. ``tell`` receives the number of pairs done.
        """
        found, done = torch.zeros(len(pairs), 2, dtype=torch.float64), 0
        with torch.no_grad(), self.loaded.autocast():
            for places, logps in self._batches(pairs, pad):
                with self.loaded.started() if self.loaded.has_base else nullcontext():
                    before = logps(self._reference)
                found[places] = beta * (logps(self._policy) - before).double().cpu()
                done += len(places)
                tell(done)
        return found

    def _batches(self, pairs: TokenPairs, pad: int) -> Iterator[tuple[list[int], LogProbs]]:
        """(indices of pairs, function that computes a model's [k, 2] log-probabilities of their answers)."""
        if self._packed:
            packed = self._packed[id(self._policy)]
            budget = row_budget(pairs, self._per_device, self._policy, self._device, None)
            for row in packed.pack(pairs, budget):
                there = row.to(self._device)
                yield list(row.pairs), lambda model, row=there: self._packed[id(model)](model, row)[0]
            return
        for begin in range(0, len(pairs), self._per_device):
            places = list(range(begin, min(begin + self._per_device, len(pairs))))
            padded = _padded([pairs[place] for place in places], pad, self._device)
            yield places, lambda model, padded=padded: _log_probs(model, *padded)


def _padded(pairs: Sequence[TokenPair], pad: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels, [2k, T]: the chosen sequences, then the rejected ones."""
    both = [(pair.prompt, answer) for name in ("chosen", "rejected") for pair in pairs for answer in (getattr(pair, name),)]
    longest = max(len(prompt) + len(answer) for prompt, answer in both)
    ids = torch.full((len(both), longest), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for number, (prompt, answer) in enumerate(both):
        end = len(prompt) + len(answer)
        ids[number, :end] = torch.tensor([*prompt, *answer])
        mask[number, :end] = 1
        labels[number, len(prompt) : end] = torch.tensor(answer)
    return ids.to(device), mask.to(device), labels.to(device)


def _log_probs(model: Any, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """[k, 2] float64."""
    output = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True, use_cache=False)
    return output.log_probs.double().sum(1).view(2, -1).T
