"""The DPO step: TRL's trainer with its constructor unchanged, and what this project overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from ..checkpoints.remembered import BUDGETS, CHECKPOINTING, COMPILED, GRAPHED, MICRO, PATH, PENDING
from ..processes.ranks.sharding import stage as zero_stage
from .batches.packing import rows_of
from .fast import FastTrainer
from .packed import Fast
from .plain import Interrupted


class DPOTrainer(FastTrainer):
    """``trl.DPOTrainer`` over pairs that are token ids already, with checkpoints that are complete or absent.

    The loss is equation 7 of Rafailov et al., "Direct Preference Optimization" (arXiv 2305.18290), as TRL computes it:
    -log sigmoid(beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)))), mean over the pairs.
    """

    has_reference = True
    plain_pass = "TRL"  # what the fast path is compared with

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """``trainer.inputs.tokens.tokens`` has made the ids: TRL would look for text to tokenise."""
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card in the run folder: run.json has what was trained, and PEFT writes the adapter's own card."""

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """``trainer.reference`` has them, and knows what its numbers depend on; TRL's cache does not."""
        return dataset

    def __init__(self, *args: Any, **kwargs: Any):
        self._planned: tuple[int, list[tuple[int, ...]]] | None = None  # the rows of an evaluation, and their budget
        self.on_first_step: Callable[[dict[str, float]], None] | None = None  # is given the first step's figures, logged or not
        self.is_continued = False  # whether the run trains an adapter on: the reference is the model with it
        self.was_cut = False  # whether a stop has cut the last evaluation short
        super().__init__(*args, **kwargs)

    @property
    def path(self) -> str:
        return "plain" if self._fast is None else "fast"

    @property
    def fast(self) -> Fast | None:
        """What the packed path needs; None on the plain path."""
        return self._fast

    def choices(self) -> dict[str, Any]:
        budgets = gather_object([self._fast.budget if self._fast else None])
        return {
            PATH: self.path,
            COMPILED: GRAPHED if self._fast and self._fast.graphs is not None else bool(self._fast and self._fast.is_compiled),
            CHECKPOINTING: self.args.activation_checkpointing,
            MICRO: self._micro_at_start,
            BUDGETS: budgets,
        }

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """On the fast path, the validation pairs, which ``evaluation_loop`` packs; other data are evaluated by TRL."""
        is_other = eval_dataset is not None and eval_dataset is not self.eval_dataset
        if self._fast is None or self._fast.held_out is None or is_other:
            return super().get_eval_dataloader(eval_dataset)
        return DataLoader(self._fast.held_out.pairs, collate_fn=list)

    def floating_point_ops(self, inputs: Any) -> int:
        return super().floating_point_ops(inputs) if self._fast is None else 0  # transformers counts padded ids

    def _evaluate_all(self, dataloader: Any, description: str, *args: Any, metric_key_prefix: str, **kwargs: Any) -> Any:
        """Evaluates every validation pair once, on any number of ranks."""
        if self._fast is not None and self._fast.held_out is not None and dataloader.dataset is self._fast.held_out.pairs:
            return self._evaluate_packed(metric_key_prefix)
        return super()._evaluate_all(dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs)

    def _held_out_rows(self) -> list[tuple[int, ...]]:
        """The pairs of each row of an evaluation; computed once for a budget of the rows."""
        if self._planned is None or self._planned[0] != self._fast.budget:
            self._planned = self._fast.budget, rows_of(self._fast.held_out.pairs, self._fast.budget)
        return self._planned[1]

    def _evaluate_packed(self, prefix: str) -> EvalLoopOutput:
        data, figures, here = self._fast.held_out, self.new_figures(), self.args.process_index
        assert data is not None, "there are pairs to evaluate"
        rows, world = self._held_out_rows(), self.args.world_size
        model = self.model_wrapped if zero_stage(self) else self.model
        model.eval()
        if callable(getattr(self.optimizer, "eval", None)):  # a schedule-free one keeps two sets of weights
            self.optimizer.eval()
        done = 0
        with torch.no_grad(), self.accelerator.autocast():
            for begin in range(0, len(rows), world):
                if self.is_stop_wanted():
                    raise Interrupted
                is_work = begin + here < len(rows)
                places = rows[begin + here if is_work else begin]  # spread weights are brought together by all ranks at once
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
                if is_work or zero_stage(self) == 3:
                    self._losses(model, self._fast.packed.row(data.pairs, places), data, figures if is_work else None)
                done += sum(map(len, rows[begin : begin + world]))
                self._evaluation.at(done, len(data.pairs), "pairs")
        means = figures.means(self.accelerator)
        metrics = {f"{prefix}_{name}": value for name, value in means.items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(data.pairs))

    def figures_so_far(self) -> dict[str, float]:
        return super().figures_so_far() if self._fast is None else self._figures.peek(self.accelerator)

    def line_sums(self) -> dict[str, Tensor]:
        return super().line_sums() if self._fast is None else self._figures.state()

    def take_line_sums(self, every: Sequence[Mapping[str, Tensor]]) -> None:
        if self._fast is None:
            super().take_line_sums(every)
        else:
            for state in every:
                self._figures.take(state)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the metrics of the steps since the last line, over the pairs of all ranks."""
        if self._fast is not None and "loss" in logs:
            means = self._figures.means(self.accelerator)
            self.culprits.find(means.pop("loss"))
            for name, value in means.items():
                self._metrics["train"][name] = [value]
        super().log(logs, start_time)

    def _maybe_log_save_evaluate(self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, *args: Any, **kwargs: Any) -> None:
        """A stop cuts an evaluation short: the checkpoint of its step records it, and a resumed run begins with it."""
        if self.on_first_step is not None and self.state.global_step == 1:
            check, self.on_first_step = self.on_first_step, None
            check(self.figures_so_far())
        try:
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kwargs)
        except Interrupted:
            self.model.train()
            self.was_cut = True
            self.state.stateful_callbacks[PENDING] = True
            self._save_checkpoint(model, trial)
            self.control.should_evaluate = self.control.should_save = False
            self.control.should_training_stop = True

    def _run_epoch(self, **kwargs: Any) -> None:
        """First the evaluation that a stop cut short; nothing where a resumed run had reached its end: transformers would train
        one step more.
        """
        self.resume_line()
        if self.state.stateful_callbacks.pop(PENDING, None):
            self.control.should_evaluate = True
            saves = (kwargs[name] for name in ("model", "trial", "epoch", "ignore_keys_for_eval", "start_time"))
            self._maybe_log_save_evaluate(self._tr_loss, None, *saves)
        if not self.control.should_training_stop:
            super()._run_epoch(**kwargs)
