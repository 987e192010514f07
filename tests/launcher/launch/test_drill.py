"""A drill, with torchrun played by ``tests/fakes``; that its adapters are equal with a real trainer is tested with the demo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.launch.drill import Disturbances, Drilled, Trial, drill
from launcher.launch.rendered import Choice, rendered

FAKES = Path(__file__).parents[2] / "fakes"
CONFIG = """\
demo:
  experiment_id: 1
  model_name: ./model
  datasets_path: data
  hyperparameters: {model_output_dir: out}
"""
# The fake's ranks, before which a run has an adapter with the same weights, or with another value in each run.
TORCHRUN = """\
import os, runpy, sys
from pathlib import Path
folder = Path(sys.argv[-1])
(folder / "adapter").mkdir(exist_ok=True)
(folder / "adapter" / "w.safetensors").write_text(folder.name if os.environ.get("FAKE_DIFFERENT") else "w")
runpy.run_path({fake!r}, run_name="__main__")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("configs", "data", "model", "fakes/torch/distributed"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "model" / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "model" / name).touch()
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")
    for name in ("torch/__init__.py", "torch/distributed/__init__.py"):
        (tmp_path / "fakes" / name).touch()
    fake = str(FAKES / "torch" / "distributed" / "run.py")
    (tmp_path / "fakes" / "torch" / "distributed" / "run.py").write_text(TORCHRUN.format(fake=fake))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'fakes'}{os.pathsep}{Path(__file__).parents[3]}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("FAKE_STEPS", "6")
    monkeypatch.setenv("FAKE_PAUSE", "0.1")
    return tmp_path


def test_a_drill_tells_what_each_run_does_and_leaves_nothing_where_all_adapters_are_the_same(home: Path) -> None:
    said: list[str] = []
    found = drill(rendered(Choice("demo"), "host"), Disturbances.of(6, 1, "3", None), said.append)
    assert (found.experiment, found.is_same, found.kept) == ("demo", True, None)
    assert [trial.how for trial in found.trials] == ["SIGTERM", "SIGKILL"]
    assert [line.split(":")[0] for line in said if ": starting" in line] == ["undisturbed run", "run stopped", "run killed-1"]
    assert any(line.startswith("undisturbed run: 6 steps in ") for line in said)
    assert any(line.startswith("  1  SIGTERM after step ") and line.endswith(": same adapter") for line in said)
    assert not (home / "out" / "drill").exists()


def test_the_runs_are_kept_where_an_adapter_differs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DIFFERENT", "1")
    found = drill(rendered(Choice("demo"), "host"), Disturbances.of(6, 1, "3", None), lambda _: None)
    assert (found.is_same, found.kept) == (False, home / "out" / "drill")
    assert found.kept is not None
    assert found.kept.is_dir()


def test_what_a_drill_has_found_is_a_value() -> None:
    trial = Trial("SIGKILL", 3, 2, 137, is_same=False)
    found = Drilled("demo", (trial,), Path("out/drill"))
    told = {"how": "SIGKILL", "at_step": 3, "from_step": 2, "exit_code": 137, "is_same": False}
    assert found.json() == {"experiment": "demo", "same": False, "trials": [told]}
    assert str(trial) == "SIGKILL after step 3     exit 137, resumed from step 2: DIFFERENT ADAPTER"


@pytest.mark.parametrize("moment", ["0", "6", "soon"])
def test_a_run_is_killed_at_a_step_that_it_reaches(moment: str) -> None:
    with pytest.raises(UsageError, match=f"--kill-at: expected random or a step from 1 to 5, found {moment!r}"):
        Disturbances.of(6, 1, moment, None)
