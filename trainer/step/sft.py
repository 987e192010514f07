"""The SFT step: supervised warm-up on the chosen answers, with the rows, checkpoints and paths of the DPO step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..inputs.tokens.token_pairs import TokenPairs
from .batches.packing import Row, segments_of
from .batches.steps import Share
from .dpo import DPOTrainer
from .loss.figures import AnswerFigures
from .packed import Scored
from .plain import OWN


class SFTTrainer(DPOTrainer):
    """Learns the chosen answers after their prompts, without a reference.

    The loss is that of ``trl.SFTTrainer`` with ``completion_only_loss``: the mean of -log pi(token) over all tokens of a step's
    answers, whichever micro-batches and ranks hold them. An answer counts by its tokens. An evaluation's loss is the mean over
    the tokens of all validation answers; TRL takes the mean over its batches.
    """

    has_reference = False
    plain_pass = "padded sequences"
    sequences = 1

    def __init__(self, *args: Any, **kwargs: Any):
        self._step_tokens = 1  # predicted in the step under way, over all ranks
        tokenizer = kwargs["processing_class"]
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        super().__init__(*args, **{"data_collator": Collator(int(pad or 0)), **kwargs})
        self.precompute_ref_logps = False  # set, so that TRL loads no second copy of the weights

    # --- Packed rows

    def new_figures(self) -> AnswerFigures:
        return AnswerFigures(self.accelerator.device)

    def pair_weight(self, share: Share) -> float:
        return 1 / share.predicted

    def count_of(self, pairs: TokenPairs) -> int:
        """The number of predicted tokens: those of the answers, without the first one if there is no prompt."""
        return int(segments_of(pairs.lengths)[:, 1].sum())

    def mean_loss(self, logps: Tensor, reference: Tensor, pairs: TokenPairs) -> Tensor:
        return -logps[:, 0].sum() / self.count_of(pairs)

    def _losses(self, model: Any, row: Row, data: Scored, figures: AnswerFigures | None) -> tuple[Tensor, Tensor]:
        """([K] float64: -log pi of the row's answers, which are added to ``figures``; [K, 2]: log-probabilities)."""
        assert self._fast is not None, "rows are the fast path's"
        row = row.to(self.accelerator.device)
        logps, output = self._fast.packed(model, row)
        losses = -logps[:, 0]
        if figures is not None:
            figures.add(row, output, losses.detach())
        return losses, logps.detach()

    # --- Padded sequences

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The micro-batches of a step, whose predicted tokens are counted over all ranks."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and "input_ids" in batches[0]:
            mine = sum(int(batch["completion_mask"][:, 1:].sum()) for batch in batches if batch[OWN])
            self._step_tokens = int(self.accelerator.reduce(torch.tensor(mine, device=device), reduction="sum"))
        return batches, items

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss of a micro-batch, in a training step its part of the step's loss.

        Transformers divides it by the number of micro-batches and takes the mean over the ranks; the factor undoes both.
        """
        mode, own = "train" if self.model.training else "eval", inputs.pop(OWN, len(inputs["input_ids"]))
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        router = {"output_router_logits": True} if self.aux_loss_enabled else {}
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        output = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True, use_cache=False, **router)
        lost, count = -output.log_probs.double().sum(), max(1, int(output.label_mask.sum()))
        means = {"entropy": output.entropy.sum() / count, "mean_token_accuracy": output.is_top1.sum() / count}
        learned = output.label_mask if own else torch.zeros_like(output.label_mask)
        both = torch.cat([learned, torch.zeros_like(learned)])
        self._averages[mode].add({"loss": lost.detach() / count, **means}, int(learned.sum()), both)
        loss = lost / count
        if mode == "train" and self.is_in_train:
            share = 1 / self._step_tokens if own else 0.0
            loss = lost * (share * self.current_gradient_accumulation_steps * self.args.world_size)
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * output.aux_loss
        return (loss, output) if return_outputs else loss


class Collator:
    """Rows of the dataset -> ``input_ids``, ``attention_mask`` and ``completion_mask``, [n, T] int64, padded on the right."""

    def __init__(self, pad: int):
        self._pad = pad

    def __call__(self, rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
        sequences = [[*row["prompt_ids"], *row["chosen_ids"]] for row in rows]
        longest = max(map(len, sequences))
        ids = torch.full((len(rows), longest), self._pad)
        attention, answers = torch.zeros_like(ids), torch.zeros_like(ids)
        for number, (row, sequence) in enumerate(zip(rows, sequences, strict=True)):
            ids[number, : len(sequence)] = torch.tensor(sequence)
            attention[number, : len(sequence)] = 1
            answers[number, len(row["prompt_ids"]) : len(sequence)] = 1
        return {"input_ids": ids, "attention_mask": attention, "completion_mask": answers}
