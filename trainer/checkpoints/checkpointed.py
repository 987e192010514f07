"""TRL's trainer with checkpoints that are complete or absent, and that say what they were made of."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import trl
from transformers.trainer_utils import rotate_checkpoints

from launcher.errors import HealthError
from launcher.runs.run_dir import sync_tree, write_whole

from ..processes.sharding import all_finite, stage
from . import origin
from .reshard import carry_over, is_native, parameter_names

STAGING = ".saving"
# Names in a checkpoint's trainer_state.json. A resume takes the automatic choices again: another one rounds differently.
TOKENS = "tokens"  # trained on so far
PATH = "dpo_path"  # the path that the run has taken
CHECKPOINTING = "gradient_checkpointing"  # whether it recomputes activations
BUDGETS = "row_budgets"  # tokens of a row, by rank
MICRO = "micro_batch"  # pairs that a rank computes at once on the plain path
PENDING = "evaluation_is_pending"  # a stop cut the evaluation of the checkpoint's step short


def check_finite(model: torch.nn.Module) -> None:
    """Raises HealthError, on every rank, if a trained weight is not a number: no checkpoint and no adapter may hold one."""
    if not all_finite(model):
        raise HealthError("the trained weights hold numbers that are not finite: lower learning_rate")


class CheckpointedTrainer(trl.DPOTrainer):
    """``trl.DPOTrainer`` whose ``checkpoint-<step>`` holds all that an exact resume needs, or is not there."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.origin: dict[str, Any] = {}  # see checkpoints.origin; what every checkpoint says of itself
        self.save_seconds: list[float] = []  # of each checkpoint
        self._saving = False
        super().__init__(*args, **kwargs)

    def choices(self) -> dict[str, Any]:
        """The automatic choices of this run, by the names above: a resume takes them again. All ranks ask together."""
        raise NotImplementedError

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

    def _prepare_for_training(self, max_steps: Any, loader: Any, resume_from_checkpoint: Any) -> Any:
        """A checkpoint of another sharding is read weight by weight."""
        then = origin.read(Path(resume_from_checkpoint)) if resume_from_checkpoint else None
        if is_native(then, self.origin):
            return super()._prepare_for_training(max_steps, loader, resume_from_checkpoint)
        assert then is not None, "only a checkpoint that says what it is can be of another sharding"
        prepared = super()._prepare_for_training(max_steps, loader, None)
        carry_over(self, Path(resume_from_checkpoint), then)
        return prepared

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(super()._get_output_dir(trial))
        return str(folder / STAGING if self._saving else folder)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether ``save_strategy: best`` saves now: a better model, and the last step, from which a stopped run goes on."""
        return bool(super()._determine_best_metric(metrics, trial) or self.control.should_training_stop)

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
        self.state.stateful_callbacks.update(self.choices())
        self._saving, began = True, time.monotonic()
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
            names = {} if stage(self) else {"parameters": parameter_names(self)}
            write_whole(staging / origin.FILE, json.dumps({**self.origin, **names}, indent=2) + "\n")
            sync_tree(staging)
            staging.rename(final)
            shutil.rmtree(folder / STAGING)
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )
        self.accelerator.wait_for_everyone()
        self.save_seconds.append(time.monotonic() - began)
