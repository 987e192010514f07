"""The DPO step: TRL's trainer with its constructor untouched, and all that this project changes in it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from launcher.errors import MemoryShortage, Warned

from ..checkpoints.remembered import BUDGETS, CHECKPOINTING, MICRO, PATH, PENDING
from ..inputs.tokens import TokenPair
from ..output import notices
from ..processes.sharding import stage as zero_stage
from .culprits import Culprits
from .figures import Figures
from .gradients import sum_gradients
from .losses import Ratios, pair_losses, smoothed
from .packed import Fast, Scored
from .packing import Row, first_fit, packed_length, rows_of
from .plain import Interrupted, PlainTrainer
from .steps import Share, StepLoader, Steps


class DPOTrainer(PlainTrainer):
    """``trl.DPOTrainer`` over pairs that are token ids already, with checkpoints that are complete or absent.

    The loss is equation 7 of Rafailov et al., "Direct Preference Optimization" (arXiv 2305.18290), as TRL computes it:
    -log sigmoid(beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)))), mean over the pairs.

    It starts on the plain path, TRL's own; ``take_fast_path`` switches it to packed rows. Both see the same pairs in the same
    step, whatever the number of ranks, and every pair weighs the same.
    """

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """``trainer.inputs.tokens`` has made the ids: TRL would look for text to tokenise."""
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card in the run folder: run.json has what was trained, and PEFT writes the adapter's own card."""

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """``trainer.reference`` has them, and knows what its numbers depend on; TRL's cache does not."""
        return dataset

    def __init__(self, *args: Any, **kwargs: Any):
        self._fast: Fast | None = None
        self._planned: tuple[int, list[tuple[int, ...]]] | None = None  # the rows of an evaluation, and their budget
        self.culprits = Culprits()
        self.on_first_step: Callable[[dict[str, float]], None] | None = None  # is given the first step's figures, logged or not
        self.was_cut = False  # whether a stop has cut the last evaluation short
        super().__init__(*args, **kwargs)
        self._micro_at_start = self.args.per_device_train_batch_size
        self._figures = Figures(self.accelerator.device, self._noise)
        self.loss_types, self.loss_weights = smoothed(self.loss_types, self.loss_weights, self.label_smoothing)

    @property
    def _noise(self) -> float:
        """Rewards up to which a margin is rounding: the reference and the policy see a pair in different rows."""
        half = self.args.bf16 or self.args.fp16
        return self.beta * (5e-2 if half else 1e-3)

    def take_fast_path(self, fast: Fast) -> None:
        """Trains and evaluates on packed rows from now on: one batch of transformers is a whole step of this rank."""
        self._fast, args = fast, self.args
        args.per_device_train_batch_size *= args.gradient_accumulation_steps
        args.gradient_accumulation_steps = 1
        self._train_batch_size = args.per_device_train_batch_size
        if zero_stage(self):
            # For DeepSpeed a row is a micro-batch, and there are at most as many as pairs.
            self.accelerator.state.deepspeed_plugin.deepspeed_config.update(
                train_micro_batch_size_per_gpu=1,
                gradient_accumulation_steps=args.per_device_train_batch_size,
                train_batch_size=args.per_device_train_batch_size * args.world_size,
            )

    @property
    def path(self) -> str:
        return "plain" if self._fast is None else "fast"

    def choices(self) -> dict[str, Any]:
        budgets = gather_object([self._fast.budget if self._fast else None])
        recompute = self.args.activation_checkpointing
        return {PATH: self.path, CHECKPOINTING: recompute, MICRO: self._micro_at_start, BUDGETS: budgets}

    def get_train_dataloader(self) -> Any:
        """Under the fast path, the shares of this rank; its reduction is DDP's and not accelerate's loader's."""
        return super().get_train_dataloader() if self._fast is None else StepLoader(len(self._fast.train.pairs), self.steps())

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Under the fast path, the validation pairs, which ``evaluation_loop`` packs; other data are evaluated as by TRL."""
        is_other = eval_dataset is not None and eval_dataset is not self.eval_dataset
        if self._fast is None or self._fast.held_out is None or is_other:
            return super().get_eval_dataloader(eval_dataset)
        return DataLoader(self._fast.held_out.pairs, collate_fn=list)

    def steps(self) -> Steps:
        """This rank's shares of the steps."""
        assert self._fast is not None, "the plain path has transformers' loader"
        args, pairs = self.args, self._fast.train.pairs
        seed = args.seed if args.data_seed is None else args.data_seed
        together = self._micro_at_start * args.world_size
        return Steps(
            pairs,
            batch=args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size,
            seed=None if args.train_sampling_strategy == "sequential" else seed,
            rank=args.process_index,
            world=args.world_size,
            budget=self._fast.budget if zero_stage(self) else None,
            kept=len(pairs) - (len(pairs) % together if args.dataloader_drop_last else 0),
        )

    def floating_point_ops(self, inputs: Any) -> int:
        return super().floating_point_ops(inputs) if self._fast is None else 0  # transformers counts padded ids

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """A whole step of this rank: forward and backward row by row, one reduction of the gradients over the ranks.

        Where the memory does not suffice the same step is computed again in shorter rows, until one holds a single pair.
        """
        if self._fast is None:
            return super().training_step(model, inputs, num_items_in_batch)
        share: Share = inputs["share"]
        model.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        mark = self._figures.mark()
        while (total := self._computed(model, share)) is None:
            self.model.zero_grad()
            self._figures.back_to(mark)
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()
        self._total_train_tokens += share.tokens
        self.pairs_trained += share.total
        return total

    def _computed(self, model: Any, share: Share) -> Tensor | None:
        """The share's part of the step's loss, whose gradient has been added; None where it must be computed again."""
        try:
            return self._rows(model, share)
        except torch.OutOfMemoryError as error:
            if zero_stage(self) or not self._shorten([self._fast.train.pairs[place] for place in share.pairs]):
                raise
            reason = str(error).splitlines()[0]
        # Here and not above: the error's frames hold what the failed row has kept for its backward pass.
        self._forget()
        what = f"out of memory at step {self.state.global_step + 1}: this and all later steps use rows of at most"
        notices([Warned(f"{what} {self._fast.budget:,} tokens ({reason})")])
        return None

    def _rows(self, model: Any, share: Share) -> Tensor:
        """Forward and backward of the share's rows; no rank waits for another before all of them are done, unless weights or
        gradients are spread over the ranks: then every rank computes as many rows as the others, the last of them for nothing.
        """
        assert self._fast is not None, "rows are the fast path's"
        pairs = self._fast.train.pairs
        rows = rows_of(pairs, self._fast.budget, share.pairs)
        is_spread, world = zero_stage(self) > 0, self.args.world_size
        total = torch.zeros((), device=self.accelerator.device)
        recent = []
        count = share.rows if is_spread else len(rows)
        for number in range(count):
            row = self._fast.packed.row(pairs, rows[min(number, len(rows) - 1)])
            is_work = share.is_work and number < len(rows)
            # The longest row is tried before the training wraps the model's forward pass in autocast.
            with self.compute_loss_context_manager(), self.accelerator.autocast():
                # DDP's wrapper would reduce in the backward pass, where a rank that runs out of memory leaves the others waiting.
                called = model if is_spread else self.model
                losses = self._losses(called, row, self._fast.train, self._figures if is_work else None)
            loss = (losses.sum() * (1 / share.total if is_work else 0.0)).float()
            if is_spread:
                self.accelerator.gradient_state._set_sync_gradients(number == count - 1)
                self.accelerator.backward(loss * world, scale_wrt_gas=False)  # DeepSpeed takes the mean over the ranks
            else:
                self.accelerator.backward(loss)
            total += loss.detach() * world  # transformers logs the mean over the ranks
            recent.append((row.pairs, losses.detach()))
        if not is_spread:
            sum_gradients(self.model.parameters())
        self.culprits.add(recent)
        return total

    def _shorten(self, pairs: Sequence[TokenPair]) -> bool:
        """Halves the rows' budget; False where each of ``pairs`` has a row to itself already."""
        assert self._fast is not None, "rows are the fast path's"
        if all(len(row) == 1 for row in first_fit([packed_length(pair) for pair in pairs], self._fast.budget)):
            return False
        self._fast = replace(self._fast, budget=max(1, self._fast.budget // 2))
        return True

    def _forget(self) -> None:
        gc.collect()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()

    def try_longest(self) -> None:
        """Computes a row of the longest pairs and forgets it: a shortage of memory shows now and not after hours."""
        if self._fast is None or zero_stage(self):
            return
        pairs = self._fast.train.pairs
        longest = sorted(range(len(pairs)), key=lambda place: (-packed_length(pairs[place]), place))
        while True:
            lengths = [packed_length(pairs[place]) for place in longest]
            count = next((n for n in range(1, len(lengths)) if sum(lengths[: n + 1]) > self._fast.budget), len(lengths))
            share = Share(tuple(longest[:count]), count, 0, False, 1)
            done = self._computed(self.model, share) is not None
            self.model.zero_grad()
            self.culprits.forget()
            if done:
                self._forget()
                return

    def shortage(self, error: torch.OutOfMemoryError) -> MemoryShortage:
        """The error of the run where no shorter row helps; the next attempt may take smaller micro-batches."""
        can_split = self._micro_at_start > 1 and (self._fast is None or zero_stage(self) > 0)
        advice = "retrying with smaller micro-batches" if can_split else "lower max_seq_length, or see `launcher plan`"
        return MemoryShortage(
            f"out of memory at step {self.state.global_step + 1}: {advice} ({str(error).splitlines()[0]})", can_split=can_split
        )

    def _losses(self, model: Any, row: Row, data: Scored, figures: Figures | None) -> Tensor:
        """[k] float64: the losses of the row's pairs, which are added to ``figures``."""
        assert self._fast is not None, "rows are the fast path's"
        row = row.to(self.accelerator.device)
        logps, output = self._fast.packed(model, row)
        ratios = logps - data.reference.index_select(0, row.places)
        losses = pair_losses(self.args, Ratios(*ratios.unbind(1), *row.counts.unbind(1)))
        if figures is not None:
            figures.add(row, output, logps.detach(), self.args.beta * ratios.detach(), losses.detach())
        return losses

    def _evaluate_all(self, dataloader: Any, description: str, *args: Any, metric_key_prefix: str, **kwargs: Any) -> Any:
        """Under the fast path, every validation pair once, whatever the number of ranks."""
        if self._fast is not None and self._fast.held_out is not None and dataloader.dataset is self._fast.held_out.pairs:
            return self._evaluate_packed(metric_key_prefix)
        return super()._evaluate_all(dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs)

    def _held_out_rows(self) -> list[tuple[int, ...]]:
        """The pairs of each row of an evaluation; found once, as long as the rows' budget stays."""
        if self._planned is None or self._planned[0] != self._fast.budget:
            self._planned = self._fast.budget, rows_of(self._fast.held_out.pairs, self._fast.budget)
        return self._planned[1]

    def _evaluate_packed(self, prefix: str) -> EvalLoopOutput:
        data, figures, here = self._fast.held_out, Figures(self.accelerator.device, self._noise), self.args.process_index
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

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Figures of the steps since the last line, over the pairs of all ranks."""
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
        if self.state.stateful_callbacks.pop(PENDING, None):
            self.control.should_evaluate = True
            saves = (kwargs[name] for name in ("model", "trial", "epoch", "ignore_keys_for_eval", "start_time"))
            self._maybe_log_save_evaluate(self._tr_loss, None, *saves)
        if not self.control.should_training_stop:
            super()._run_epoch(**kwargs)
