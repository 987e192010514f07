"""A drill, with torchrun played by ``tests/fakes``; that its adapters are equal with a real trainer is tested with the demo."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.job.drill import AFTER, BEFORE, Moment
from launcher.launch.drill import Disturbances, Drilled, Trial, drill
from launcher.launch.rendered import Choice, rendered
from launcher.runs.run_dir import RunDir

FAKES = Path(__file__).parents[2] / "fakes"
CONFIG = """\
demo:
  experiment_id: 1
  model_name: ./model
  datasets_path: data
  hyperparameters: {model_output_dir: out}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("configs", "data", "model"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "model" / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "model" / name).touch()
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{FAKES}{os.pathsep}{Path(__file__).parents[3]}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("FAKE_STEPS", "6")
    monkeypatch.setenv("FAKE_PAUSE", "0.1")
    monkeypatch.setenv("FAKE_SAVES", "2")
    monkeypatch.setenv("FAKE_ADAPTER", "w")
    return tmp_path


def test_a_drill_tells_what_each_run_does_and_leaves_nothing_where_all_adapters_are_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STILL", "3 stopped killed")
    said: list[str] = []
    found = drill(rendered(Choice("demo"), "host"), Disturbances.of(6, 1, "3", None), said.append)
    assert (found.experiment, found.is_same, found.kept) == ("demo", True, None)
    assert [trial.how for trial in found.trials] == ["SIGTERM", "SIGKILL"]
    told = dict.fromkeys(seen[0] for line in said if (seen := re.match(r"(uninterrupted )?run[^:]*", line)))
    assert list(told) == ["uninterrupted run", "run stopped", "run killed-1"]
    assert any(line.startswith("uninterrupted run: 6 steps in ") for line in said)
    assert any(line.startswith("  1  SIGTERM, step 4 ") and line.endswith(": same adapter") for line in said)
    assert not (home / "out" / "drill").exists()


def test_the_runs_are_kept_where_an_adapter_differs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_ADAPTER", "{run}")
    found = drill(rendered(Choice("demo"), "host"), Disturbances.of(6, 1, "3", None), lambda _: None)
    assert (found.is_same, found.kept) == (False, home / "out" / "drill")
    assert found.kept is not None
    assert found.kept.is_dir()


def test_kills_come_in_steps_and_in_writes_by_turns_and_the_table_tells_which(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STILL", "3 stopped")
    monkeypatch.setenv("FAKE_WRITE", "3 killed")  # a kill takes a moment
    found = drill(rendered(Choice("demo"), "host"), Disturbances.of(6, 4, "random", 5), lambda _: None)
    killed = [trial.under_way for trial in found.trials if trial.how == "SIGKILL"]
    assert len(killed) == 4
    assert found.is_same
    assert all(trial.at_step > 0 for trial in found.trials)
    assert [re.sub("[0-9]", "N", what) for what in killed[1::2]] == ["writing checkpoint-N", "writing the adapter"]
    assert all(re.fullmatch("step [2-6]|writing checkpoint-[246]", what) for what in killed[::2])


def test_what_a_drill_has_found_is_a_value() -> None:
    trial = Trial("SIGKILL", "step 4", 3, 2, 137, is_same=False)
    found = Drilled("demo", (trial,), Path("out/drill"))
    told = {"how": "SIGKILL", "under_way": "step 4", "at_step": 3, "from_step": 2, "exit_code": 137, "is_same": False}
    assert found.json() == {"experiment": "demo", "same": False, "trials": [{**told, "counts": True}]}
    assert str(trial) == "SIGKILL, step 4                exit 137, resumed from step 2: DIFFERENT ADAPTER"


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_a_kill_before_the_first_step_or_after_the_adapter_is_no_pass(when: str) -> None:
    trial = Trial("SIGKILL", when, 0, 0, 137, is_same=True)
    found = Drilled("demo", (trial, replace(trial, under_way="writing checkpoint-2")), None)
    assert not found.is_same
    assert str(trial).endswith(": same adapter, which proves nothing")
    assert str(found) == (
        "1 of 2 resumed runs ended with the adapter of the uninterrupted run, byte for byte; "
        "1 came before the first step or after the adapter, and proves nothing"
    )


def test_a_kill_that_comes_too_late_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_WAIT", "2")
    monkeypatch.setattr("launcher.launch.drill.moments", lambda *_: itertools.repeat(Late("adapter", 6)))
    said: list[str] = []
    found = drill(rendered(Choice("demo"), "host"), Disturbances.of(6, 1, "random", None), said.append)
    assert found.trials[1].under_way == AFTER
    assert not found.is_same
    assert sum(line.endswith("; trying again") for line in said) == 2


class Late(Moment):
    def has_come(self, run: RunDir, last: int) -> bool:
        return run.adapter.exists()


@pytest.mark.parametrize("moment", ["0", "6", "soon"])
def test_a_run_is_killed_at_a_step_that_it_reaches(moment: str) -> None:
    with pytest.raises(UsageError, match=f"--kill-at: expected random or a step from 1 to 5, found {moment!r}"):
        Disturbances.of(6, 1, moment, None)
