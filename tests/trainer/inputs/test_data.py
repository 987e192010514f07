"""A spreadsheet is read once a run, by one rank, and what was read is trained on from then on."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.data.prompt import kept_prompt
from launcher.data.tables.sheets.spreadsheet import Spreadsheet, Worksheet, bundle, read_copy
from launcher.experiment.schema import Experiment
from launcher.job.topology import Topology
from launcher.runs.processes import kill
from launcher.runs.run_dir import RunDir
from tests.sheets.google import SPREADSHEET, Google, new_key, serving
from trainer.inputs.data import read_data

REPOSITORY = Path(__file__).parents[3]
DEMO = REPOSITORY / "configs" / "demo"
BATCH = f"GET /v4/spreadsheets/{SPREADSHEET}/values:batchGet"
SHEET = {"datasets_path": None, "spreadsheet_id": SPREADSHEET, "train_sheet": "Train", "validation_filename": None}
Make = Callable[..., Experiment]
New = Callable[[Path, Experiment, str], RunDir]


@pytest.fixture
def google() -> Iterator[Google]:
    with (DEMO / "training_data.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[:33]
    with serving(Google(new_key(), sheets={SPREADSHEET: {"Train": rows}})) as served:
        yield served


def test_a_run_keeps_the_files_that_it_read(
    tmp_path: Path, make_experiment: Make, new_run: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.inputs.data.COPIED", 100)
    (tmp_path / "data").mkdir()
    read = b"question,concrete,vague\r\nWhy?,Because.,No.\r\n"
    (tmp_path / "data" / "training_data.csv").write_bytes(read)
    (tmp_path / "data" / "large.csv").write_bytes(read + b"How?,So.,What?\n" * 10)
    experiment = make_experiment(experiment={"datasets_path": "data", "validation_filename": "large.csv"})
    run = new_run(tmp_path, experiment, "one")
    read_data(experiment, run, root=tmp_path, data_root=tmp_path, cache=tmp_path / "cache", first=True)
    assert {file.name: file.read_bytes() for file in run.source.iterdir()} == {"training_data.csv": read}


def test_the_first_rank_leaves_a_copy_that_is_read_from_then_on(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_experiment: Make, new_run: New
) -> None:
    experiment = make_experiment(experiment=SHEET)
    run = new_run(tmp_path, experiment, "one")
    monkeypatch.chdir(tmp_path)
    for name, value in google.env().items():
        monkeypatch.setenv(name, value)

    def read():  # type: ignore[no-untyped-def]
        return read_data(experiment, run, root=tmp_path, data_root=tmp_path, cache=tmp_path / "cache", first=True)

    pairs = read()
    assert google.requests == ["POST /token", BATCH]
    google.sheets[SPREADSHEET]["Train"] = [["nothing"]]
    for name in google.env():
        monkeypatch.delenv(name)
    assert read() == pairs
    assert len(pairs.train) == 32
    assert len(google.requests) == 2
    record = run.read_record()
    assert record["spreadsheet"] == json.loads((run.spreadsheet / "spreadsheet.json").read_text())
    assert [(s["role"], s["name"], s["rows"], s["sha256"]) for s in record["data"]] == [
        ("train", "worksheet Train", 32, record["spreadsheet"]["worksheets"][0]["sha256"])
    ]


def test_what_a_pods_config_map_brings_is_trained_on(tmp_path: Path, make_experiment: Make, new_run: New) -> None:
    experiment = make_experiment(experiment=SHEET)
    run = new_run(tmp_path, experiment, "one")
    cells = (("question", "concrete", "vague"), ("Why?", "Because.", "Well."))
    read = Spreadsheet(SPREADSHEET, "2026-11-24T10:11:12+00:00", (Worksheet("train", "Train", cells),))
    (run.path / "read.json").write_text(bundle(read))
    pairs = read_data(experiment, run, root=tmp_path, data_root=tmp_path, cache=tmp_path / "cache", first=True)
    assert pairs.spreadsheet == read
    assert read_copy(run.spreadsheet) == read


@pytest.mark.slow
def test_of_two_ranks_one_reads(google: Google, tmp_path: Path, make_experiment: Make) -> None:
    experiment = make_experiment(experiment=SHEET, max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    run = RunDir.of(tmp_path, "out", "tiny", experiment.model_folder, "two")
    run.create({run.experiment: experiment.model_dump_json()}, {"run": "two"})
    env = {
        **os.environ,
        **Topology(nproc=2).environment(str(run.deepspeed)),
        **google.env(DPO_RUN_FOLDER=str(run.path), DPO_CACHE_ROOT=str(tmp_path / "cache"), OMP_NUM_THREADS="1"),
    }
    entry = subprocess.run(
        [sys.executable, "-m", "trainer.processes.entrypoint", str(run.path)], env=env, timeout=600, check=False
    )
    assert entry.returncode == 0, run.rank_log(0).read_text() + run.rank_log(1).read_text()
    assert google.requests == ["POST /token", BATCH]
    assert len(run.read_record()["spreadsheet"]["worksheets"]) == 1
    second = run.rank_log(1).read_text()
    assert second.startswith("rank 1 of 2 started: node 0 ")
    assert "\nrank 1 uses the CPU (1 threads)\n" in second
    assert "\nrank 1 is done after " in second


@pytest.mark.slow
def test_a_run_from_the_command_line_is_resumed_with_the_cells_it_began_with(
    google: Google, tmp_path: Path, demo_model: Path
) -> None:
    (tmp_path / "configs").mkdir()
    shutil.copytree(demo_model, tmp_path / "model")
    experiment = {
        **{name: value for name, value in SHEET.items() if value is not None},
        "experiment_id": 1,
        "model_name": "./model",
        "dpo_column_mapping_config": {"input_columns": {"question": "question"}, "chosen": "concrete", "rejected": "vague"},
        "hyperparameters": {"max_steps": 100_000, "save_steps": 1, "compile": "off", "model_output_dir": "out"},
        "launch": {"gpus": 0},
    }
    (tmp_path / "configs" / "demo.yml").write_text(json.dumps({"demo": experiment}))
    (tmp_path / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in google.env().items()))
    run = RunDir(tmp_path / "out" / "exp_1" / "model" / "runs" / "one")

    def launcher(*args: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "DPO_CACHE_ROOT": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "launcher", *args]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode in (0, 143), done.stdout + done.stderr + "".join(p.read_text() for p in run.path.rglob("*.log"))
        return done.stdout

    def step_and_stop(after: int) -> None:
        deadline = time.monotonic() + 600
        while not any(int(c.name.removeprefix("checkpoint-")) > after for c in run.checkpoints()):
            assert time.monotonic() < deadline, run.rank_log(0).read_text()
            time.sleep(0.1)
        launcher("stop", "one")

    try:
        launcher("run", "demo", "--backend", "host", "--name", "one", "--detach")
        step_and_stop(0)
        trained_on = (run.data / "train.jsonl").read_text()
        google.sheets[SPREADSHEET]["Train"] = google.sheets[SPREADSHEET]["Train"][:9]
        launcher("resume", "one", "--detach")
        step_and_stop(int(run.checkpoints()[-1].name.removeprefix("checkpoint-")))
    finally:
        kill(str(run.path))
    assert (run.data / "train.jsonl").read_text() == trained_on
    assert trained_on.count("\n") == 32
    assert re.search(r"^resumes from checkpoint-\d+: ", run.rank_log(0).read_text(), re.MULTILINE)
    assert google.requests == ["POST /token", BATCH]


def test_data_that_change_while_the_ranks_read_them_are_a_reason_to_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from launcher.errors import StorageError
    from trainer.inputs import data

    mine = SimpleNamespace(sources=[SimpleNamespace(name="s3://b/train.csv", sha256="1")])
    monkeypatch.setattr(data, "gather_object", lambda seen: [*seen, [("s3://b/train.csv", "2")]])
    with pytest.raises(StorageError, match=r"s3://b/train.csv: the data changed while the ranks read them; start again"):
        data._check_equal(mine)


@pytest.mark.parametrize("role", ["system", None])
def test_a_run_remembers_that_rows_have_system_messages_of_their_own_in_a_list_or_in_a_column(
    tmp_path: Path, new_run: New, role: str | None
) -> None:
    messages = [*([{"role": role, "content": "Be brief."}] if role else []), {"role": "user", "content": "Why?"}]
    row = {"prompt": messages, **{name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    experiment = Experiment.parse(
        {"experiment_id": 1, "model_name": "m", "datasets_path": ".", "train_filename": "pairs.jsonl", "hyperparameters": {}}
    )
    run = new_run(tmp_path, experiment, "one")
    read_data(experiment, run, root=tmp_path, data_root=tmp_path, cache=tmp_path / "cache", first=True)
    kept = kept_prompt(run)
    assert kept is not None
    assert kept.has_own == (role is not None)
    (tmp_path / "pairs.jsonl").write_text(json.dumps({**row, "prompt": "Why?", "about": "Be brief." if role else ""}) + "\n")
    settings = experiment.model_dump() | {"dpo_column_mapping_config": {"system": "about"}}
    run, other = new_run(tmp_path, experiment, "two"), Experiment.parse(settings)
    read_data(other, run, root=tmp_path, data_root=tmp_path, cache=tmp_path / "cache", first=True)
    kept = kept_prompt(run)
    assert kept is not None
    assert kept.has_own == (role is not None)
