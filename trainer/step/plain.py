"""The plain path: TRL's own step, in which every pair weighs the same, in the gradient and in the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from ..checkpoints.checkpointed import CheckpointedTrainer
from ..output import EVERY, FIRST, Stage, stage
from .loss.figures import Averages, rounded

OWN: Final = "own_pairs"  # of a micro-batch; without it, all of its pairs count
_MARGINS: Final = -3  # of what TRL gathers of each pair: margins, then both log-probabilities


class Interrupted(Exception):
    """An evaluation or the reference pass was interrupted on all ranks because one of them was asked to stop."""


class PlainTrainer(CheckpointedTrainer):
    """``trl.DPOTrainer`` whose losses and metrics are means over pairs, however micro-batches and ranks divide them.

    TRL takes the mean over a micro-batch, transformers the mean over micro-batches, and DDP the mean over ranks: the pairs of a
    short last micro-batch would weigh more. Here a micro-batch counts by its share of the step's pairs. Accelerate fills up the
    last micro-batches of an epoch with pairs from its beginning, so that all ranks have as many: those are left out.

    A loss over a whole batch (aot, sft) is a mean over the micro-batch as in TRL, and counts by the pairs in it.
    """

    sequences = 2  # of a pair in a batch: the chosen ones, then the rejected ones

    def __init__(self, *args: Any, **kwargs: Any):
        self.is_stop_wanted: Callable[[], bool] = lambda: False  # whether any rank was asked to stop; all ranks ask together
        self.pairs_trained = 0  # by this process and the other ranks, without those before a resume
        self._step_pairs = 1  # of the step under way, over all ranks
        self._evaluation: Stage | None = None  # the evaluation that is under way
        self._seen, self._to_see = 0, 0  # pairs of that evaluation
        super().__init__(*args, **kwargs)
        self._averages = {mode: Averages(self.accelerator.device) for mode in ("train", "eval")}

    @property
    def noise(self) -> float:
        """The margin, in rewards, up to which it is rounding: reference and policy see a pair in different rows."""
        return rounded(self.beta, half=self.args.bf16 or self.args.fp16)

    # --- Training

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The micro-batches of a step, each with the number of its own pairs."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches or "input_ids" not in batches[0]:
            return batches, items  # the fast path's
        batches[:-1] = [_own_part(batch, _pairs(batch, self.sequences), self.sequences) for batch in batches[:-1]]
        batches[-1] = _own_part(batches[-1], self._own_pairs(batches[-1]), self.sequences)
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches if batch[OWN])
        counts = torch.tensor([sum(batch[OWN] for batch in batches), tokens], device=device)
        self._step_pairs, tokens = self.accelerator.reduce(counts, reduction="sum").tolist()
        self.pairs_trained += self._step_pairs
        self._total_train_tokens += tokens
        return batches, items

    def _own_pairs(self, batch: Mapping[str, Any]) -> int:
        """Pairs of the newest micro-batch that are not there to fill it: those come last, and after them whole micro-batches."""
        state, size = self.accelerator.gradient_state, _pairs(batch, self.sequences)
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return size
        return min(max(0, state.remainder - self.args.process_index * size), size)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor | tuple[Tensor, Any]:
        """TRL's loss of a micro-batch, in a training step times its share of the step's pairs.

        Transformers divides it by the number of micro-batches and takes the mean over the ranks; the factor undoes both.
        """
        mode = "train" if self.model.training else "eval"
        own = inputs.pop(OWN, _pairs(inputs, self.sequences))
        seen = self._total_train_tokens
        with _alone(self.accelerator) as gathered:
            computed = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._total_train_tokens = seen  # TRL counts this rank's alone
        loss = computed[0] if return_outputs else computed
        found = {name: values[-1] for name, values in self._metrics[mode].items() if name != "num_tokens"}
        self._metrics[mode].clear()
        margins = gathered[_MARGINS]
        found["rewards/accuracies"] = (margins > self.noise).double().mean()
        answers = inputs["completion_mask"][:, 1:]
        self._averages[mode].add({"loss": loss.detach(), **found}, own, answers if own else 0 * answers)
        if mode == "train" and self.is_in_train:
            loss = loss * (own * self.current_gradient_accumulation_steps * self.args.world_size / self._step_pairs)
        return (loss, computed[1]) if return_outputs else loss

    def figures_so_far(self) -> dict[str, float]:
        """Means over the pairs since the last line, without a router's balancing loss; all ranks must call it."""
        found = self._averages["train"].peek(self.accelerator)
        return found | {"loss": found["loss"] - self.router_aux_loss_coef * found.get("aux_loss", 0.0)}

    def line_sums(self) -> dict[str, Tensor]:
        return self._averages["train"].state()

    def take_line_sums(self, every: Sequence[Mapping[str, Tensor]]) -> None:
        for state in every:
            self._averages["train"].take(state)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            means = self._averages["train"].means(self.accelerator)
            means.pop("loss", None)  # transformers' own is the same
            for name, value in means.items():
                self._metrics["train"][name] = [value]
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        super().log(logs, start_time)

    # --- Evaluation

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """All validation pairs: ``dataloader_drop_last`` is about training steps."""
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drop_last

    def evaluation_loop(
        self, dataloader: Any, description: str, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> Any:
        """Metrics are means over pairs or tokens and do not depend on the batch size."""
        before = self.state.global_step == 0
        what = "evaluating before the first step" if before else f"evaluating after step {self.state.global_step}"
        self._seen, self._to_see = 0, len(dataloader.dataset)
        with stage(what, after=FIRST if before else EVERY) as self._evaluation:
            return self._evaluate_all(dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs)

    def _evaluate_all(self, dataloader: Any, description: str, *args: Any, metric_key_prefix: str, **kwargs: Any) -> Any:
        self._averages["eval"].forget()
        output = super().evaluation_loop(dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        means = self._averages["eval"].means(self.accelerator)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in means.items()})
        return output

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Under the training's autocast: before the training, transformers leaves a model beside a reference without it."""
        if self.is_stop_wanted():
            raise Interrupted
        self._seen += _pairs(inputs, self.sequences) * self.args.world_size
        if self._evaluation is not None:
            self._evaluation.at(min(self._to_see, self._seen), self._to_see, "pairs")
        with self.accelerator.autocast():
            return super().prediction_step(model, _own_part(inputs, self._own_pairs(inputs), self.sequences), *args, **kwargs)


def _pairs(batch: Mapping[str, Any], sequences: int) -> int:
    return len(batch["input_ids"]) // sequences


def _own_part(batch: Mapping[str, Any], own: int, sequences: int) -> dict[str, Any]:
    """``batch`` with its first ``own`` pairs, and their number; with one pair where all are another rank's, for nothing:
    every rank must meet the others in the forward and the backward pass.
    """
    size, kept = _pairs(batch, sequences), max(1, own)
    if kept == size:
        return {**batch, OWN: own}
    every = [begin + number for begin in range(0, sequences * size, size) for number in range(kept)]
    part = {name: value[every] if len(value) == sequences * size else value[:kept] for name, value in batch.items()}
    return {**part, OWN: own}


@contextmanager
def _alone(accelerator: Any) -> Iterator[list[Tensor]]:
    """TRL's figures stay with this rank: gathered batch by batch, they would hold pairs twice, or tensors of unequal length.

    Yields what TRL gathers of the batch's pairs, in its order.
    """
    gathered: list[Tensor] = []

    def gather(value: Tensor) -> Tensor:
        gathered.append(value)
        return value

    accelerator.gather, accelerator.gather_for_metrics = gather, lambda value, *args, **kwargs: value
    try:
        yield gathered
    finally:
        del accelerator.gather, accelerator.gather_for_metrics
