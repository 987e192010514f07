"""Where the base model of a run that has ended is loaded from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.errors import LauncherError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.after.loaded import find


def test_the_base_of_a_run_is_that_of_the_commit_on_which_it_was_trained(
    tmp_path: Path, tiny_model: Path, make_experiment: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub = tmp_path / "hub" / "models--someone--tiny"
    trained_on, newest = "a" * 40, "b" * 40
    for commit in (trained_on, newest):
        shutil.copytree(tiny_model, hub / "snapshots" / commit)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(newest)
    experiment = make_experiment(experiment={"model_name": "someone/tiny"}, model_cache_dir=str(tmp_path / "hub"))
    run = RunDir(tmp_path / "runs" / "first")
    run.adapter.mkdir(parents=True)
    (run.adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/tiny"}))
    run.experiment.write_text(experiment.model_dump_json())
    run.update_record(run="first", model={"identity": "c" * 64, "revision": trained_on})
    assert find(run.path, tmp_path / "cache").path == str(hub / "snapshots" / trained_on)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"torch_dtype": "float16"}, "torch_dtype: float16 is not possible here; computed without it"),
        ({"attn_implementation": "flash_attention_2"}, "attn_implementation: flash_attention_2 is not possible here"),
    ],
)
def test_a_run_of_a_machine_with_more_is_loaded_without_what_this_one_lacks(
    tmp_path: Path, make_experiment: Callable[..., Experiment], settings: dict[str, str], said: str, capsys: Any
) -> None:
    run = RunDir(tmp_path / "first")
    run.adapter.mkdir(parents=True)
    run.experiment.write_text(make_experiment(full_finetuning=True, **settings).model_dump_json())
    run.update_record(run="first")
    found = find(run.path, tmp_path / "cache")
    assert found.precision.weights == torch.float32
    assert found.experiment.hyperparameters.attn_implementation is None
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("start", ["pissa", "lora_ga"])
def test_an_adapter_of_a_changed_base_answers_nothing_on_the_whole_one(tmp_path: Path, start: str) -> None:
    """peft would load the second one without a word, and of the first one no base is left to compare with."""
    config = {"peft_type": "LORA", "base_model_name_or_path": "someone/tiny", "init_lora_weights": start}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(LauncherError, match=rf"has init_lora_weights: {start}, which subtracts a part from the base's weights"):
        find(tmp_path, tmp_path / "cache")
