"""`launcher again` as a person types it; torchrun is played by ``tests/fakes``, which writes no record as a trainer does."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.processes import kill
from launcher.runs.run_dir import RunDir
from tests.launcher.cli.typed import CONFIG, launcher, run_dir, with_demo

DATA = "prompt,chosen,rejected\nWhy?,Because.,No.\nHow?,So.,What?\n"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("begun")
    with with_demo(tmp_path):
        (tmp_path / "data" / "training_data.csv").write_text(DATA)
        done = launcher(tmp_path, "run", "demo", "--backend", "host", "--name", "first", "--set=hyperparameters.beta=0.3")
        assert done.returncode == 0, done.stderr
        trained(run_dir(tmp_path, "first"), tmp_path)
        (tmp_path / "configs" / "demo.yml").write_text("")  # the record alone must do
    return tmp_path


@pytest.fixture
def home(tmp_path: Path, begun: Path) -> Iterator[Path]:
    """A working directory with a run ``first`` that is done."""
    shutil.copytree(begun, tmp_path, symlinks=True, dirs_exist_ok=True)
    yield tmp_path
    for record in tmp_path.rglob("run.json"):
        kill(str(record.parent))


def trained(run: RunDir, home: Path) -> None:
    """What the trainer adds to the record."""
    names = {"train": "training_data.csv", "validation": "validation.csv"}
    files = {role: (home / "data" / name).read_bytes() for role, name in names.items()}
    data = [
        {"role": role, "name": f"data/{names[role]}", "sha256": hashlib.sha256(text).hexdigest(), "rows": text.count(b"\n") - 1}
        for role, text in files.items()
    ]
    packages = {"torch": importlib.metadata.version("torch")}
    run.update_record(data=data, packages=packages, template_date="2026-11-01", model={"identity": "f" * 64, "revision": None})


def record(home: Path, name: str) -> dict[str, Any]:
    return run_dir(home, name).read_record()


def test_a_run_is_repeated_from_its_record_alone_with_equal_losses(home: Path) -> None:
    run_dir(home, "first").update_record(set=["topic=bread"])
    done = launcher(home, "again", "first")
    assert (done.returncode, done.stderr) == (0, "")
    assert " --set topic=bread --set hyperparameters.learning_rate=" in done.stdout, "the next run that is suggested"
    assert "repeats     first\n" in done.stdout
    assert done.stdout.endswith("first and first-again: same losses, bit for bit, in 5 of 5 steps\n")
    new, old = record(home, "first-again"), record(home, "first")
    assert new["experiment"] == old["experiment"]
    assert new["template_date"] == "2026-11-01"
    assert new["again"] == {"of": "first", "anyway": False, "data": old["data"], "model": old["model"]}
    assert "first-again-2" in launcher(home, "again", "first", "--detach").stdout


def test_losses_that_differ_are_named_with_what_differs_between_the_records(home: Path) -> None:
    done = launcher(home, "again", "first", "--name", "second", FAKE_STEPS="4")
    assert done.returncode == 0, done.stderr
    assert (
        "first and second: other losses: first difference in step 1 (0.67999999999999994 and 0.67499999999999993); 1 only"
        in done.stdout
    )
    run_dir(home, "second").update_record(packages={"torch": "0.1"}, model={"identity": "e" * 64})
    later = launcher(home, "again", "first", "--check", "second", "--json")
    found = json.loads(later.stdout)
    assert (found["equal"], found["first"], found["steps"], found["alone"]) == (False, 1, 4, [1, 0])
    assert found["differences"] == [
        f"torch: recorded {importlib.metadata.version('torch')}, found 0.1",
        f"model identity: recorded {'f' * 64}, found {'e' * 64}",
    ]


def test_what_cannot_be_had_is_refused_with_every_difference_and_accepted_with_anyway(home: Path) -> None:
    wanted = record(home, "first")["data"][0]["sha256"]
    (home / "data" / "training_data.csv").write_text(DATA.replace("Because", "Therefore"))
    found = hashlib.sha256((home / "data" / "training_data.csv").read_bytes()).hexdigest()
    run_dir(home, "first").update_record(
        code={"revision": "a" * 40, "dirty": False, "content": "other"}, packages={"torch": "0.1"}
    )
    done = launcher(home, "again", "first")
    assert (done.returncode, run_dir(home, "first-again").path.exists()) == (1, False)
    lines = done.stderr.splitlines()
    assert lines[:3] == ["error: first cannot be repeated from its record:", "code", "    recorded: revision aaaaaaaaaaaa"]
    assert lines[4].endswith(" checkout aaaaaaaaaaaa")
    assert lines[5:] == [
        "torch",
        "    recorded: 0.1",
        f"    found:    {importlib.metadata.version('torch')}",
        "    hint:     pip install torch==0.1",
        "train data",
        f"    recorded: data/training_data.csv, 2 rows, SHA-256 {wanted[:12]}",
        f"    found:    SHA-256 {found[:12]}",
        f"    hint:     restore the file with this SHA-256: {wanted}",
        "Repeat it anyway with: launcher again first --anyway",
    ]
    anyway = launcher(home, "again", "first", "--anyway")
    assert anyway.returncode == 0, anyway.stderr
    assert f"warning: torch: recorded 0.1, found {importlib.metadata.version('torch')}\n" in anyway.stdout
    assert record(home, "first-again")["again"]["anyway"] is True


def test_the_file_with_the_recorded_hash_is_taken_under_another_name(home: Path) -> None:
    (home / "data" / "training_data.csv").rename(home / "data" / "pairs-v1.csv")
    (home / "data" / "training_data.csv").write_text(DATA + "Where?,Here.,There.\n")
    done = launcher(home, "again", "first")
    assert done.returncode == 0, done.stderr
    assert "notice: train data: pairs-v1.csv has the recorded SHA-256, training_data.csv has another\n" in done.stdout
    assert "data        2 training, 1 validation pairs" in done.stdout


def test_pairs_that_were_held_out_of_a_file_are_so_again_under_its_new_name(home: Path) -> None:
    named = "validation_filename: validation.csv"
    assert named in CONFIG
    (home / "configs" / "demo.yml").write_text(CONFIG.replace(named, "validation_split: 0.5"))
    done = launcher(home, "run", "demo", "--backend", "host", "--name", "split")
    assert done.returncode == 0, done.stderr
    (home / "configs" / "demo.yml").write_text("")
    file = home / "data" / "training_data.csv"
    read = {"name": "data/training_data.csv", "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "rows": 1, "held_out": 0.5}
    run_dir(home, "split").update_record(data=[{"role": role, **read} for role in ("train", "validation")])
    file.rename(home / "data" / "pairs-v1.csv")
    done = launcher(home, "again", "split")
    assert done.returncode == 0, done.stderr
    assert "notice: train data: pairs-v1.csv has the recorded SHA-256" in done.stdout
    assert "data        1 training, 1 validation pairs" in done.stdout


def test_the_runs_own_copies_are_used_where_its_files_were_changed(home: Path) -> None:
    source = run_dir(home, "first").source
    source.mkdir(exist_ok=True)
    for file in (home / "data").glob("*.csv"):
        shutil.copy(file, source)
    (home / "data" / "training_data.csv").write_text(DATA + "Where?,Here.,There.\n")
    done = launcher(home, "again", "first")
    assert done.returncode == 0, done.stderr
    assert "notice: first's copies of its data files are used: those in data changed\n" in done.stdout
    assert "data        2 training, 1 validation pairs" in done.stdout
    experiment = record(home, "first-again")["experiment"]
    assert experiment["datasets_path"] == "out/exp_1/model/runs/first/data/source"
    assert experiment["train_filename"] == "training_data.csv"
    (source / "validation.csv").unlink()
    assert "train data\n    recorded: data/training_data.csv, 2 rows" in launcher(home, "again", "first").stderr


def test_the_runs_own_copy_of_its_adapter_is_used_where_the_folder_was_changed(home: Path) -> None:
    run, sft = run_dir(home, "first"), home / "sft"
    experiment = json.loads(run.experiment.read_text())
    run.experiment.write_text(json.dumps({**experiment, "adapter": "sft"}))
    config = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "model"}
    for folder in (sft, run.start):
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(config))
        (folder / "adapter_model.safetensors").write_text("weights")
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in run.start.iterdir()}
    run.update_record(adapter={"name": "sft", "revision": None, "sha256": files})

    (sft / "adapter_model.safetensors").write_text("other weights")
    done = launcher(home, "again", "first", "--name", "second")
    assert done.returncode == 0, done.stderr
    assert "notice: the run's copy of adapter sft is used: that folder changed" in done.stdout
    assert record(home, "second")["experiment"]["adapter"] == "out/exp_1/model/runs/first/start"

    (run.start / "adapter_model.safetensors").write_text("weights of nobody")
    refused = launcher(home, "again", "first", "--name", "third")
    assert refused.returncode == 1
    assert "adapter_model.safetensors " + files["adapter_model.safetensors"][:12] in refused.stderr
    assert "    hint:     restore the files of sft" in refused.stderr


def test_a_checkpoint_that_the_run_began_from_is_that_of_the_record(home: Path) -> None:
    run = run_dir(home, "first")
    experiment = json.loads(run.experiment.read_text())
    experiment["hyperparameters"]["resume_from_checkpoint"] = True
    run.experiment.write_text(json.dumps(experiment))
    refused = launcher(home, "again", "first")
    assert "checkpoint\n    recorded: the newest one of that time\n    found:    no name in the record\n" in refused.stderr
    run.update_record(resumed_from="out/exp_1/model/runs/zero/checkpoint-3")
    assert launcher(home, "again", "first", "--name", "from-three").returncode == 0
    h = record(home, "from-three")["experiment"]["hyperparameters"]
    assert h["resume_from_checkpoint"] == "out/exp_1/model/runs/zero/checkpoint-3"
    run.update_record(resumed_from=None)  # it looked for one and found none; now it would find its own
    assert launcher(home, "again", "first", "--name", "from-zero").returncode == 0
    assert record(home, "from-zero")["experiment"]["hyperparameters"]["resume_from_checkpoint"] is False


def test_a_run_that_read_no_data_cannot_be_repeated(home: Path) -> None:
    run_dir(home, "first").update_record(data=None)
    done = launcher(home, "again", "first")
    assert (done.returncode, done.stderr) == (
        2,
        "error: first ended before it read its data: its record is incomplete\n",
    )
