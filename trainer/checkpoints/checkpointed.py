"""TRL's trainer with checkpoints that are complete or absent and record their origin."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from peft import PeftConfig, PeftModel
from peft.utils import CONFIG_NAME
from torch import Tensor
from transformers.trainer_utils import rotate_checkpoints

from launcher.errors import HealthError
from launcher.runs.run_dir import STAGING
from launcher.runs.whole import as_new, sync_tree, write_whole

from ..inputs.models.dropout import true_config
from ..output import notices
from ..processes.disk import writing
from ..processes.ranks.sharding import all_finite, stage
from . import origin
from .copies import Copies
from .kept_reference import keep_logps
from .log_line import keep_line, take_line
from .moved_reference import keep_reference, take_reference
from .remembered import LOSSES, TOKENS
from .reshard import carry_over, is_native, parameter_names
from .schedule import follow
from .sound import listed


def check_finite(model: torch.nn.Module) -> None:
    """Raises HealthError on every rank if a trained weight is not finite: no checkpoint or adapter may contain one."""
    if not all_finite(model):
        raise HealthError("trained weights are not finite (NaN or infinite): lower learning_rate")


def _sort_sets(config: PeftConfig, file: Path) -> None:
    """Rewrites ``file``, in which PEFT has saved ``config``, with each set sorted."""
    saved = json.loads(file.read_text(encoding="utf-8"))
    saved |= {name: sorted(value) for name, value in vars(config).items() if isinstance(value, set)}
    file.write_text(json.dumps(saved, indent=2, sort_keys=True), encoding="utf-8")


class CheckpointedTrainer(trl.DPOTrainer):
    """``trl.DPOTrainer`` whose ``checkpoint-<step>`` holds everything for an exact resume, or does not exist."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.origin: dict[str, Any] = {}  # see checkpoints.origin; every checkpoint records it
        self.reference_logps: dict[str, Tensor] = {}  # by role, see kept_reference
        self.copies: Copies | None = None  # uploads the checkpoints
        self.save_seconds: list[float] = []  # of each checkpoint
        self.train_loss: float | None = None  # mean over all steps of the run, those before a resume included
        self._losses_before: float | None = 0.0  # sum over the steps before a resume; None: an old checkpoint
        self._saving = False
        self._resumes: Path | None = None  # from this checkpoint, until the first epoch begins
        super().__init__(*args, **kwargs)

    def _send_telemetry(self) -> None:
        """Nothing, unless HF_HUB_DISABLE_TELEMETRY=0 asks for it: Hugging Face's client may have been imported before ours."""
        if os.environ.get("HF_HUB_DISABLE_TELEMETRY", "").upper() in ("0", "NO", "FALSE", "OFF"):
            super()._send_telemetry()

    def choices(self) -> dict[str, Any]:
        """The run's automatic choices, by the names of ``remembered``: a resume takes them again. All ranks ask together."""
        raise NotImplementedError

    def line_sums(self) -> dict[str, Tensor]:
        """What this rank has summed for the next line of the log, by names."""
        raise NotImplementedError

    def take_line_sums(self, every: Sequence[Mapping[str, Tensor]]) -> None:
        """Goes on with the ``line_sums`` of some ranks: of this one, or of all of another number."""
        raise NotImplementedError

    def _init_training_state(self, max_steps: Any, steps: Any, epochs: Any, resume_from_checkpoint: Any, trial: Any) -> Any:
        """Resume state besides transformers' own: tokens seen, and the best checkpoint if the run was moved."""
        begin = super()._init_training_state(max_steps, steps, epochs, resume_from_checkpoint, trial)
        if resume_from_checkpoint is None:
            return begin
        state, here = self.state, Path(resume_from_checkpoint)
        self._resumes = here
        self._total_train_tokens = int(state.stateful_callbacks.get(TOKENS, 0))
        self._losses_before = state.stateful_callbacks.get(LOSSES)
        if state.best_global_step and state.best_model_checkpoint is None:
            best = here if state.best_global_step == state.global_step else here.parent / f"checkpoint-{state.best_global_step}"
            if best.is_dir():
                state.best_model_checkpoint = str(best)
            else:  # it was deleted: only a later checkpoint can be loaded in the end
                state.best_metric = state.best_global_step = None
        return begin

    def _prepare_for_training(self, max_steps: Any, loader: Any, resume_from_checkpoint: Any) -> Any:
        """Reads a checkpoint of another sharding weight by weight; takes the learning rate from this run's schedule."""
        then = origin.read(Path(resume_from_checkpoint)) if resume_from_checkpoint else None
        if is_native(then, self.origin):
            prepared = super()._prepare_for_training(max_steps, loader, resume_from_checkpoint)
        else:
            assert then is not None, "only a checkpoint with an origin.json can be of another sharding"
            prepared = super()._prepare_for_training(max_steps, loader, None)
            carry_over(self, Path(resume_from_checkpoint), then)
        if resume_from_checkpoint:
            follow(self.lr_scheduler, self.optimizer)
            said = take_reference(self, Path(resume_from_checkpoint))
            notices(said if self.is_world_process_zero() else [])
        return prepared

    def _run_epoch(self, **kwargs: Any) -> None:
        """First what the next line averages: transformers has just set its own sums to zero."""
        self.resume_line()
        super()._run_epoch(**kwargs)

    def resume_line(self) -> None:
        """Takes the sums of the checkpoint once; nothing to do in a run from the first step."""
        checkpoint, self._resumes = self._resumes, None
        if checkpoint is not None:
            said = take_line(self, checkpoint)
            notices(said if self.is_world_process_zero() else [])

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Makes files of equal models equal: PEFT writes sets in hash order, which differs between processes."""
        with true_config(self.accelerator.unwrap_model(self.model)):
            super()._save(output_dir, state_dict)
        if self.args.should_save and isinstance(self.model, PeftModel):
            _sort_sets(self.model.active_peft_config, Path(output_dir or self.args.output_dir) / CONFIG_NAME)

    def _sum_of_losses(self) -> float:
        """Sum of the losses of this process's steps, as in transformers' ``train_loss``; all ranks call this together."""
        since_last_line = float(self.accelerator.reduce(self._tr_loss, reduction="mean"))
        return self._total_loss_scalar + since_last_line

    def _finalize_training(self, *args: Any) -> Any:
        here, before, last = self._sum_of_losses(), self._losses_before, self.state.global_step
        steps = last if before is not None else last - self._initial_global_step
        self.train_loss = (here + (before or 0.0)) / steps if steps else None
        return super()._finalize_training(*args)

    def _get_output_dir(self, trial: Any) -> str:
        folder = Path(super()._get_output_dir(trial))
        return str(folder / STAGING if self._saving else folder)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether ``save_strategy: best`` saves now: a better model, and the last step, from which a stopped run resumes."""
        return bool(super()._determine_best_metric(metrics, trial) or self.control.should_training_stop)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes the checkpoint aside and renames it: ``checkpoint-<step>`` is complete or absent.

        Raises HealthError if a weight is not a number.
        """
        step = self.state.global_step
        folder = Path(self.args.output_dir)
        staging, final = folder / STAGING / f"checkpoint-{step}", folder / f"checkpoint-{step}"
        if final.exists():
            return  # the last step of a run that also saves every n steps
        check_finite(self.model)  # with a large logging_steps no rule has seen the loss since
        self.state.stateful_callbacks[TOKENS] = self._total_train_tokens
        if self._losses_before is not None:
            self.state.stateful_callbacks[LOSSES] = self._losses_before + self._sum_of_losses()
        self.state.stateful_callbacks.update(self.choices())
        self._saving, began = True, time.monotonic()
        try:
            with writing(folder):
                super()._save_checkpoint(model, trial)
                keep_reference(self, staging)
                keep_logps(self, staging)
                keep_line(self, staging)
        except BaseException:
            shutil.rmtree(folder / STAGING, ignore_errors=True)  # a full disk has no room to report that it is full
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
            with writing(folder):
                self._publish(staging, final)
        self.accelerator.wait_for_everyone()
        if self.copies is not None:
            self.copies.offer(final, self.state.best_global_step or None)
        self.save_seconds.append(time.monotonic() - began)

    def _publish(self, staging: Path, final: Path) -> None:
        """Completes the checkpoint that was written aside, syncs and renames it; deletes old checkpoints."""
        self.state.save_to_json(str(staging / "trainer_state.json"))
        names = {} if stage(self) else {"parameters": parameter_names(self)}
        made_of = {**self.origin, **names, "files": listed(staging)}
        write_whole(staging / origin.FILE, json.dumps(made_of, indent=2) + "\n")
        as_new(staging)
        sync_tree(staging)
        staging.rename(final)
        shutil.rmtree(staging.parent)
        rotate_checkpoints(
            output_dir=str(final.parent),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
        )
