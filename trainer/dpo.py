"""The DPO step: TRL's trainer with its constructor untouched; what this project changes of it stands here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import trl
from transformers.trainer_utils import rotate_checkpoints

STAGING = ".saving"


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
        """Writes the checkpoint aside and renames it: ``checkpoint-<step>`` holds everything or is not there."""
        step = self.state.global_step
        folder = Path(self.args.output_dir)
        staging, final = folder / STAGING / f"checkpoint-{step}", folder / f"checkpoint-{step}"
        if final.exists():
            return  # the last step of a run that also saves every n steps
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
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
