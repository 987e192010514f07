from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.experiment.schema import Experiment
from launcher.planning.copies import copies_of
from launcher.planning.estimate import estimate
from launcher.planning.machines.gpus import find_gpu
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.tokens.work import Work

QWEN = Path(__file__).parents[3] / "configs/models/Qwen/Qwen3-0.6B/config.json"
CONFIG = ModelConfig.parse(json.loads(QWEN.read_text()))
WORK = Work(pairs=400, tokens=400_000, packed=300_000, longest=700, longest_pair=1000, exact=True)
CARD = Machine(gpu=find_gpu("RTX 4090"))


def fact(**hyper: Any) -> dict[str, str]:
    experiment = Experiment.parse(
        {"model_name": "m", "datasets_path": "d", "checkpoint_to": "s3://ckpt/team", "hyperparameters": hyper}
    )
    found = replace(estimate(experiment, CONFIG, WORK, CARD), seconds=600.0, steps=100)
    return copies_of(experiment, CONFIG, found)


def test_the_plan_tells_how_large_a_copy_is_and_how_often_there_is_one() -> None:
    size = f"about {12 * CONFIG.parameters / 1e9:.2g} GB"
    assert fact(full_finetuning=True, save_steps=20) == {
        "checkpoints": f"{size} each, every 20 steps (about 2 min 0 s), copied to s3://ckpt/team"
    }
    assert "only where the run is stopped (save_strategy: no)" in fact(save_strategy="no")["checkpoints"]
    assert "one per epoch" in fact(save_strategy="epoch")["checkpoints"]


def test_without_checkpoint_to_nothing_is_told() -> None:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d"})
    assert copies_of(experiment, CONFIG, estimate(experiment, CONFIG, WORK, CARD)) == {}
