"""How a run is repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from launcher.experiment.schema import Experiment
from launcher.report.repeat import commands, experiment, surroundings
from launcher.report.reported import Reported
from tests.run_folders import Made


def reported(home: Path, **more: Any) -> Reported:
    settings = {"learning_rate": 5e-4, "loss_type": ["ipo"], "trl": {"max_grad_norm": 0.5}}
    return Reported.of(Made("r", settings=settings, record=more).write(home))


def test_the_file_on_the_page_is_the_same_experiment(tmp_path: Path):
    run = reported(tmp_path)
    told = yaml.safe_load(experiment(run))
    assert told["demo"]["hyperparameters"]["max_grad_norm"] == 0.5
    assert "lora_dropout" not in told["demo"]["hyperparameters"]
    told["demo"]["hyperparameters"]["trl"] = {"max_grad_norm": told["demo"]["hyperparameters"].pop("max_grad_norm")}
    assert Experiment.parse(told["demo"]).model_dump() == Experiment.parse(dict(run.experiment)).model_dump()


def test_settings_of_another_version_are_told_whole(tmp_path: Path):
    run = reported(tmp_path, experiment={"experiment_id": "x", "unheard_of": 1})
    assert yaml.safe_load(experiment(run)) == {"demo": {"experiment_id": "x", "unheard_of": 1}}


def test_the_command_names_the_revision_the_file_and_the_backend(tmp_path: Path):
    assert commands(reported(tmp_path)) == [
        "git checkout 8ba510d8426d4babc37cb39b02c04508a5677569",
        "launcher run demo -f r.yml --backend host",
    ]
    assert commands(reported(tmp_path / "b", backend="kubernetes", code={"version": "0.1"})) == ["launcher submit demo -f r.yml"]
    assert commands(reported(tmp_path / "c", backend="python", spreadsheet={"id": 1}))[-1] == (
        "launcher run demo -f r.yml --data-of r"
    )


def test_what_surrounded_the_run_is_told_in_lines(tmp_path: Path):
    more = {"image": "dpo:cpu", "container": {"image": "sha256:1"}, "code": {"revision": "abc", "dirty": True}}
    assert surroundings(reported(tmp_path, **more)) == {
        "code": "abc, with changes that no commit has",
        "image": "dpo:cpu sha256:1",
        "packages": "python 3.11.7, torch 2.13.0",
        "machine": "x86_64, 2 cores",
        "devices": "CPU, 1 process",
        "path": "fast path on: same loss and gradient as TRL on the first pairs",
    }
