"""DeepSpeed configurations by name: those that come along, those of the user, and those that nobody can train with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError
from launcher.job.presets import FOLDER, names, read_parallelism

PRESETS = {"zero1": 1, "zero2": 2, "zero2_offload": 2, "zero3": 3, "zero3_offload": 3}


def written(root: Path, name: str, config: Any) -> Path:
    file = root / FOLDER / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return file


@pytest.mark.parametrize(("name", "stage"), PRESETS.items())
def test_the_presets_come_along(tmp_path: Path, name: str, stage: int) -> None:
    found = read_parallelism(name, tmp_path)
    assert (found.name, found.stage) == (name, stage)
    offload = found.deepspeed["zero_optimization"].get("offload_optimizer", {}).get("device")
    assert offload == ("cpu" if name.endswith("_offload") else None)


def test_a_copy_of_the_user_s_is_found_by_its_name_and_goes_first(tmp_path: Path) -> None:
    written(tmp_path, "zero2", {"zero_optimization": {"stage": 2, "reduce_bucket_size": 7}})
    written(tmp_path, "mine", {"zero_optimization": {"stage": 1}})
    assert read_parallelism("zero2", tmp_path).deepspeed["zero_optimization"]["reduce_bucket_size"] == 7
    assert read_parallelism("mine", tmp_path).stage == 1
    assert names(tmp_path) == sorted([*PRESETS, "mine"])


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        read_parallelism("zero4", tmp_path)
    assert str(caught.value) == (
        "launch.parallelism: configs/deepspeed/zero4.json not found\n"
        "    expected: one of auto, ddp, zero1, zero2, zero2_offload, zero3, zero3_offload\n"
        "    hint:     did you mean 'zero3'?"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not valid JSON"),
        ([1], "not a DeepSpeed configuration"),
        ({"zero_optimization": {"stage": 0}}, r"stage: must be 1, 2 or 3"),
        ({"zero_optimization": {"stage": 3}}, "stage3_gather_16bit_weights_on_model_save: must be true"),
        ({"zero_optimization": {"stage": 2}, "train_batch_size": 8}, "train_batch_size: is set by the experiment"),
        ({"zero_optimization": {"stage": 2}, "optimizer": {"type": "Adam"}}, "optimizer: is set by the experiment"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
            "zero_force_ds_cpu_optimizer: must be false with offload_optimizer: DeepSpeed would compile its own optimizer",
        ),
        (
            {
                "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}},
                "zero_force_ds_cpu_optimizer": False,
            },
            r"zero_optimization.offload_optimizer.device: DeepSpeed would compile its file access(.|\n)*expected: cpu or none",
        ),
        (
            {"zero_optimization": {"stage": 2, "zero_quantized_gradients": True}},
            "zero_optimization.zero_quantized_gradients: DeepSpeed would compile an extension",
        ),
    ],
)
def test_a_configuration_that_cannot_train_is_refused_by_file_and_key(tmp_path: Path, config: Any, message: str) -> None:
    file = written(tmp_path, "mine", config)
    with pytest.raises(ExperimentError, match=message) as caught:
        read_parallelism("mine", tmp_path)
    assert str(caught.value).startswith(str(file))
