"""The DPO step: TRL's trainer with its constructor untouched; what this project changes of it stands here."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import trl
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

from launcher.errors import HealthError

from .figures import Figures
from .losses import Ratios, pair_losses
from .packed import Packed
from .packing import Row, pack
from .steps import Share, StepLoader, Steps
from .tokens import TokenPair

STAGING = ".saving"
# Names in a checkpoint's trainer_state.json.
TOKENS = "tokens"  # trained on so far
PATH = "dpo_path"  # the path that the run has taken, which a resume takes again
CHECKPOINTING = "gradient_checkpointing"  # whether it recomputes activations, likewise


@dataclass(frozen=True)
class Scored:
    """Pairs with what the reference says of them."""

    pairs: Sequence[TokenPair]
    reference: Tensor  # [n, 2] float64: sums of the log-probabilities of (chosen, rejected)


@dataclass(frozen=True)
class Fast:
    """What the packed path needs."""

    packed: Packed
    budget: int  # tokens of a row
    train: Scored
    held_out: Scored | None


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


def check_finite(model: torch.nn.Module) -> None:
    """Raises HealthError if a trained weight is not a number: no checkpoint and no adapter may hold one."""
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad):
        raise HealthError("the trained weights hold numbers that are not finite: lower learning_rate")


class DPOTrainer(trl.DPOTrainer):
    """``trl.DPOTrainer`` over pairs that are token ids already, with checkpoints that are complete or absent.

    The loss is equation 7 of Rafailov et al., "Direct Preference Optimization" (arXiv 2305.18290), as TRL computes it:
    -log sigmoid(beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)))), mean over the pairs.

    As it is made it takes the plain path, TRL's own; ``take_fast_path`` turns it to packed rows. Both see the same pairs in
    the same step, whatever the number of ranks, and every pair weighs the same.
    """

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """``trainer.tokens`` has made the ids: TRL would look for text to tokenise."""
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card in the run folder: run.json says what was trained, and PEFT writes the adapter's own card."""

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """``trainer.reference`` has them, and knows what its numbers depend on; TRL's cache does not."""
        return dataset

    def __init__(self, *args: Any, **kwargs: Any):
        self._evaluated: list[int] = []  # pairs in each batch of the evaluation that is under way
        self._fast: Fast | None = None
        self._recent: list[tuple[tuple[int, ...], Tensor]] = []  # places and losses of the pairs since the last log line
        self._culprits: list[int] = []
        super().__init__(*args, **kwargs)
        self._figures = Figures(self.accelerator.device, self._noise)
        self.loss_types, self.loss_weights = smoothed(self.loss_types, self.loss_weights, self.label_smoothing)

    @property
    def _noise(self) -> float:
        """Rewards up to which a margin is rounding: the reference and the policy meet in rows of other neighbours."""
        half = self.args.bf16 or self.args.fp16
        return self.beta * (5e-2 if half else 1e-3)

    def take_fast_path(self, fast: Fast) -> None:
        """Trains and evaluates on packed rows from now on: one batch of transformers' is a whole step of this rank."""
        self._fast = fast
        self.args.per_device_train_batch_size *= self.args.gradient_accumulation_steps
        self.args.gradient_accumulation_steps = 1
        self._train_batch_size = self.args.per_device_train_batch_size

    @property
    def path(self) -> str:
        return "plain" if self._fast is None else "fast"

    def get_train_dataloader(self) -> Any:
        """Under the fast path, the shares of this rank; its reduction is DDP's and not accelerate's loader's."""
        return super().get_train_dataloader() if self._fast is None else StepLoader(len(self._fast.train.pairs), self.steps())

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Under the fast path, the pairs: ``evaluation_loop`` packs them."""
        if self._fast is None or self._fast.held_out is None:
            return super().get_eval_dataloader(eval_dataset)
        return DataLoader(self._fast.held_out.pairs, collate_fn=list)

    def steps(self) -> Steps:
        """This rank's shares of the steps."""
        assert self._fast is not None, "the plain path has transformers' loader"
        args = self.args
        seed = args.seed if args.data_seed is None else args.data_seed
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        return Steps(self._fast.train.pairs, batch=batch, seed=seed, rank=args.process_index, world=args.world_size)

    def floating_point_ops(self, inputs: Any) -> int:
        return super().floating_point_ops(inputs) if self._fast is None else 0  # transformers counts padded ids

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """A whole step of this rank: forward and backward row by row, one reduction of the gradients over the ranks."""
        if self._fast is None:
            return super().training_step(model, inputs, num_items_in_batch)
        share: Share = inputs["share"]
        model.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        rows = pack([self._fast.train.pairs[place] for place in share.pairs], self._fast.budget)
        # DDP takes the mean over the ranks; the loss is the mean over the step's pairs.
        weight = self.args.world_size / share.total if share.is_work else 0.0
        total = torch.zeros((), device=self.accelerator.device)
        for number, row in enumerate(rows):
            last = number == len(rows) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                places = [share.pairs[i] for i in row.pairs]
                with self.compute_loss_context_manager():
                    losses = self._losses(model, row, self._fast.train, places, self._figures if share.is_work else None)
                loss = (losses.sum() * weight).float()
                self.accelerator.backward(loss)
            total += loss.detach()
            self._recent.append((tuple(places), losses.detach()))
        self._total_train_tokens += share.tokens
        return total

    def _losses(self, model: Any, row: Row, data: Scored, places: Sequence[int], figures: Figures | None) -> Tensor:
        """[k] float64: the losses of the row's pairs, which are entered into ``figures``."""
        assert self._fast is not None, "rows are the fast path's"
        device = self.accelerator.device
        row = row.to(device)
        logps, output = self._fast.packed(model, row)
        ratios = logps - data.reference[list(places)].to(device)
        tokens = torch.bincount(row.answer, minlength=2 * len(places)).view(-1, 2)
        losses = pair_losses(self.args, Ratios(ratios[:, 0], ratios[:, 1], tokens[:, 0], tokens[:, 1]))
        if figures is not None:
            figures.add(row, output, logps.detach(), self.args.beta * ratios.detach(), losses.detach())
        return losses

    def evaluation_loop(
        self, dataloader: Any, description: str, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> Any:
        """Under the fast path, every held-out pair once, whatever the number of ranks."""
        if self._fast is None:
            return super().evaluation_loop(dataloader, description, *args, metric_key_prefix=metric_key_prefix, **kwargs)
        data, figures, here = self._fast.held_out, Figures(self.accelerator.device, self._noise), self.args.process_index
        assert data is not None, "there is something to evaluate on"
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            for row in pack(data.pairs, self._fast.budget)[here :: self.args.world_size]:
                self._losses(self.model, row, data, row.pairs, figures)
        means = figures.means(self.accelerator)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(data.pairs))

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Under the training's autocast: before the training, transformers leaves a model beside a reference without it."""
        self._evaluated.append(len(inputs["input_ids"]) // 2)
        with self.accelerator.autocast():
            return super().prediction_step(model, inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Figures are means over pairs: TRL's of an evaluation are means over batches, where a short last one weighs as much."""
        if self._fast is not None and "loss" in logs:
            means = self._figures.means(self.accelerator)
            self._find_culprits(means.pop("loss"))
            for name, value in (means | {"num_tokens": self._total_train_tokens}).items():
                self._metrics["train"][name] = [value]
        batches = self._metrics["eval"]
        for name, values in batches.items():
            if not self.model.training and len(values) == len(self._evaluated) > 1:
                pairs = zip(values, self._evaluated, strict=True)
                batches[name] = [sum(value * n for value, n in pairs) / sum(self._evaluated)]
        self._evaluated.clear()
        super().log(logs, start_time)

    def name_rows(self, source: str, pairs: Sequence[TokenPair]) -> None:
        """Tells where the pairs stand, so that a loss that is not finite can name them."""
        self._source, self._lines = source, [pair.line for pair in pairs]

    def culprits_of(self) -> str:
        """The rows whose loss was not finite since the line logged before, in words; empty on the plain path, whose losses
        are means over a batch."""
        if not self._culprits:
            return ""
        shown = ", ".join(f"{self._source}:{line}" for line in self._culprits[:10])
        return f" (rows {shown}{' …' if len(self._culprits) > 10 else ''})"

    def _find_culprits(self, loss: float) -> None:
        """Finds the pairs behind a mean that is not finite; all ranks come here with the same mean."""
        recent, self._recent = self._recent, []
        self._culprits = []
        if math.isfinite(loss):
            return
        found = [self._lines[p] for places, x in recent for p, bad in zip(places, (~x.isfinite()).tolist(), strict=True) if bad]
        self._culprits = sorted(set(gather_object(found)))

    def _init_training_state(self, max_steps: Any, steps: Any, epochs: Any, resume_from_checkpoint: Any, trial: Any) -> Any:
        """What a resume needs beside transformers' own: tokens seen, and the best checkpoint where the run was moved."""
        begin = super()._init_training_state(max_steps, steps, epochs, resume_from_checkpoint, trial)
        if resume_from_checkpoint is None:
            return begin
        state, here = self.state, Path(resume_from_checkpoint)
        self._total_train_tokens = int(state.stateful_callbacks.get(TOKENS, 0))
        if state.best_global_step and state.best_model_checkpoint is None:
            best = here if state.best_global_step == state.global_step else here.parent / f"checkpoint-{state.best_global_step}"
            if best.is_dir():
                state.best_model_checkpoint = str(best)
            else:  # it is gone: the best of what comes is what can be loaded in the end
                state.best_metric = state.best_global_step = None
        return begin

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """An evaluation before the training leaves the model marked as prepared, with no DDP around it: the ranks would train
        apart, each on its own gradients. So the mark is taken off, and the autocast that came with it."""
        if getattr(self.model, "_is_accelerate_prepared", False):
            del self.model._is_accelerate_prepared
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return super()._prepare_for_training(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(super()._get_output_dir(trial))
        return str(folder / STAGING if self._saving else folder)

    def _run_epoch(self, **kwargs: Any) -> None:
        """Nothing where a resumed run had reached its end: transformers would train one step more."""
        if not self.control.should_training_stop:
            super()._run_epoch(**kwargs)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether ``save_strategy: best`` saves now: a better model, and the last step, from which a stopped run goes on."""
        return bool(super()._determine_best_metric(metrics, trial) or self.control.should_training_stop)

    _saving = False

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes the checkpoint aside and renames it: ``checkpoint-<step>`` holds everything or is not there.

        Raises HealthError where a weight is not a number.
        """
        step = self.state.global_step
        folder = Path(self.args.output_dir)
        staging, final = folder / STAGING / f"checkpoint-{step}", folder / f"checkpoint-{step}"
        if final.exists():
            return  # the last step of a run that also saves every n steps
        check_finite(self.model)  # logging_steps may be so wide that nobody has seen the loss since
        self.state.stateful_callbacks[TOKENS] = self._total_train_tokens
        self.state.stateful_callbacks[PATH] = self.path
        self.state.stateful_callbacks[CHECKPOINTING] = self.args.activation_checkpointing
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
        except BaseException:
            shutil.rmtree(folder / STAGING, ignore_errors=True)  # a full disk needs room to say that it is full
            raise
        finally:
            self._saving = False
        if self.state.best_global_step:
            # The best checkpoint may be this one, which transformers saw in the staging folder; every rank loads it in the end.
            best = folder / f"checkpoint-{self.state.best_global_step}"
            if best == final or best.exists():
                self.state.best_model_checkpoint = str(best)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(staging / "trainer_state.json"))
            staging.rename(final)
            shutil.rmtree(folder / STAGING)
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )
        self.accelerator.wait_for_everyone()
