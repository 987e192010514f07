"""Size and number of the checkpoint copies in ``checkpoint_to``. Pure."""

from __future__ import annotations

from typing import Final

from ..experiment.schema import Experiment
from ..runs.known import duration
from .estimate import Estimate
from .sizes.model_config import ModelConfig
from .sizes.state import trained_weights

_CHECKPOINT: Final = 12  # bytes per trained weight: the weight and two Adam moments, 32 bits each


def checkpoint_bytes(experiment: Experiment, config: ModelConfig) -> int:
    return _CHECKPOINT * trained_weights(experiment.hyperparameters, config)


def copies_of(experiment: Experiment, config: ModelConfig, found: Estimate) -> dict[str, str]:
    """Label -> fact; empty without ``checkpoint_to``."""
    if experiment.checkpoint_to is None:
        return {}
    size = f"about {checkpoint_bytes(experiment, config) / 1e9:.2g} GB"
    return {"checkpoints": f"{size} each, {_when(experiment, found)}, copied to {experiment.checkpoint_to}"}


def _when(experiment: Experiment, found: Estimate) -> str:
    h = experiment.hyperparameters
    if h.save_strategy == "no":
        return "only where the run is stopped (save_strategy: no)"
    if h.save_strategy != "steps":
        return f"one per {h.save_strategy}" if h.save_strategy == "epoch" else "at each better evaluation"
    if found.seconds is None or not found.steps:
        return f"every {h.save_steps:,} steps"
    return f"every {h.save_steps:,} steps (about {duration(max(1.0, found.seconds / found.steps * h.save_steps))})"
