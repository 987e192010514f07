"""Where the base model of a run that has ended is loaded from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
