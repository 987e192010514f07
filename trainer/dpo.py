"""The DPO step: TRL's trainer with its constructor untouched; what this project changes of it stands here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import trl
from transformers.trainer_utils import rotate_checkpoints

from launcher.errors import HealthError

STAGING = ".saving"
TOKENS = "tokens"  # the name in a checkpoint's trainer_state.json of the tokens trained on so far


def check_finite(model: torch.nn.Module) -> None:
    """Raises HealthError if a trained weight is not a number: no checkpoint and no adapter may hold one."""
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad):
        raise HealthError("the trained weights hold numbers that are not finite: lower learning_rate")


class DPOTrainer(trl.DPOTrainer):
    """``trl.DPOTrainer`` over pairs that are token ids already, with checkpoints that are complete or absent.

    The loss is equation 7 of Rafailov et al., "Direct Preference Optimization" (arXiv 2305.18290), as TRL computes it:
    -log sigmoid(beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)))), mean over the pairs.
    """

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """``trainer.tokens`` has made the ids: TRL would look for text to tokenise."""
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card in the run folder: run.json says what was trained, and PEFT writes the adapter's own card."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._evaluated: list[int] = []  # pairs in each batch of the evaluation that is under way
        super().__init__(*args, **kwargs)

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Under the training's autocast: before the training, transformers leaves a model beside a reference without it."""
        self._evaluated.append(len(inputs["input_ids"]) // 2)
        with self.accelerator.autocast():
            return super().prediction_step(model, inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """An evaluation's figures are means over pairs: TRL takes means over batches, where a short last one weighs as much."""
        batches = self._metrics["eval"]
        for name, values in batches.items():
            if not self.model.training and len(values) == len(self._evaluated) > 1:
                pairs = zip(values, self._evaluated, strict=True)
                batches[name] = [sum(value * n for value, n in pairs) / sum(self._evaluated)]
        self._evaluated.clear()
        super().log(logs, start_time)

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
