from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.inputs.arguments import arguments, check_schedule
from trainer.inputs.model import Precision
from trainer.processes.machine import Device


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"warmup_ratio": 0.25}, 0.25),
        ({"warmup_steps": 5}, 5),
        ({"warmup_steps": 5, "warmup_ratio": 0.25}, 5),
        ({"warmup_steps": 0, "warmup_ratio": 0.25}, 0.25),
        ({}, 0),
    ],
)
def test_steps_of_warm_up_count_beside_a_ratio_as_in_transformers(given: dict[str, Any], steps: float, tmp_path: Path) -> None:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": given})
    device, precision = Device(cuda=False, bf16=False, rank=0, world=1), Precision(torch.float32, bf16=False, fp16=False)
    assert arguments(experiment, RunDir(tmp_path), precision, device).warmup_steps == steps


@pytest.mark.parametrize(
    "given",
    [
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"cycles": 2}},
        {"lr_scheduler_type": "cosine_with_min_lr"},
    ],
    ids=["an unknown name", "a value that the schedule needs"],
)
def test_a_schedule_that_cannot_be_made_is_named_before_the_weights_are_loaded(given: dict[str, Any], tmp_path: Path) -> None:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": given})
    device, precision = Device(cuda=False, bf16=False, rank=0, world=1), Precision(torch.float32, bf16=False, fp16=False)
    with pytest.raises(
        ExperimentError, match=f"lr_scheduler_kwargs: does not fit lr_scheduler_type: {given['lr_scheduler_type']}"
    ):
        check_schedule(arguments(experiment, RunDir(tmp_path), precision, device))
