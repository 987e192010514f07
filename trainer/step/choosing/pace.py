"""Planned time of a step of this run on its GPUs."""

from __future__ import annotations

from typing import Any

import torch
from trl import DPOConfig

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.planning import estimate
from launcher.planning.machines.gpus import gpu_there
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig

from ...inputs.tokens.tokens import Tokens
from ..memory import counted, parallelism


def step_seconds(experiment: Experiment, model: Any, tokens: Tokens, args: DPOConfig) -> float | None:
    """Seconds; None on a CPU, and if the GPU's speed or the model's sizes are unknown."""
    if not torch.cuda.is_available() or args.use_cpu:
        return None
    try:
        config = ModelConfig.parse(model.config.to_dict())
    except ExperimentError:
        return None
    gpu = gpu_there(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory)
    machine = Machine(args.world_size, parallelism(args), gpu=gpu)
    work = counted(tokens, experiment.global_batch)
    return estimate.step_seconds(experiment, config, work, machine, recompute=bool(args.gradient_checkpointing))
