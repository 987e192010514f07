"""Runs on a spreadsheet, as a person starts them: read once, kept, and repeated. torchrun is played by ``tests/fakes``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.data.tables.sheets.spreadsheet import Spreadsheet, Worksheet, bundle
from launcher.experiment.schema import Experiment
from launcher.job.job import plan
from launcher.job.topology import Node
from launcher.launch.data import reading_for, with_copy
from launcher.runs.processes import kill
from launcher.runs.run_dir import RunDir
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.played import FOLDER, Played, reader
from tests.rendered import rendered
from tests.sheets.google import EMAIL, SPREADSHEET, Google, new_key, serving
from tests.waiting import finished

ON_THE_CLUSTER = {"model_name": "Qwen/Qwen3-0.6B", "launch.gpus": "0", "launch.image": "r.example.com/dpo@sha256:" + "a" * 64}
FAKES = Path(__file__).parents[2] / "fakes"
HEADER = ["prompt", "chosen", "rejected"]
CONFIG = f"""\
demo:
  experiment_id: 1
  model_name: ./model
  spreadsheet_id: {SPREADSHEET}
  train_sheet: Train
  hyperparameters: {{num_train_epochs: 1, model_output_dir: out}}
"""


@pytest.fixture
def google() -> Iterator[Google]:
    sheets = {"Train": [HEADER, ["Why?", "Because.", "No."], ["How?", "So.", "What?"]]}
    with serving(Google(new_key(), sheets={SPREADSHEET: sheets})) as served:
        yield served


@pytest.fixture
def home(tmp_path: Path, google: Google) -> Iterator[Path]:
    for name in ("configs", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "model" / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "model" / name).touch()
    (tmp_path / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in google.env().items()))
    yield tmp_path
    for record in tmp_path.rglob("run.json"):
        kill(str(record.parent))


def launcher(home: Path, *args: str, api: ClusterApi | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(FAKES), "CUDA_VISIBLE_DEVICES": "", "DOCKER_HOST": "unix:///no/such/engine"}
    env["KUBECONFIG"] = "/no/such/file" if api is None else str(api.kubeconfig)
    command = [sys.executable, "-m", "launcher", *args]
    return finished(command, cwd=home, env=env, capture_output=True, text=True, timeout=300, check=False)


def run_dir(home: Path, name: str) -> RunDir:
    return RunDir(home / "out" / "exp_1" / "model" / "runs" / name)


def kept(run: RunDir) -> list[list[str]]:
    return [json.loads(line) for line in (run.spreadsheet / "train.jsonl").read_text().splitlines()]


def test_check_reads_the_spreadsheet_and_show_says_whether_its_variables_are_set(home: Path, google: Google) -> None:
    done = launcher(home, "check", "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == "demo  2 training pairs, 0 validation pairs (2 rows in worksheet Train; columns prompt, chosen, rejected)\n"
    )
    shown = launcher(home, "show", "demo", "--json").stdout
    assert json.loads(shown)["environment"]["GOOGLE_SHEETS_PRIVATE_KEY"] == "set"
    assert google.key.splitlines()[1] not in shown
    assert len(google.requests) == 2


def test_a_run_reads_it_once_keeps_the_cells_and_says_where_they_are_from(home: Path, google: Google) -> None:
    done = launcher(home, "run", "demo", "--backend", "host", "--name", "one")
    assert done.returncode == 0, done.stderr
    assert google.requests == ["POST /token", f"GET /v4/spreadsheets/{SPREADSHEET}/values:batchGet"]
    run = run_dir(home, "one")
    assert kept(run) == google.sheets[SPREADSHEET]["Train"]
    said = run.read_record()["spreadsheet"]
    assert said == json.loads((run.spreadsheet / "spreadsheet.json").read_text())
    assert (said["id"], [(w["title"], w["rows"]) for w in said["worksheets"]]) == (SPREADSHEET, [("Train", 3)])


def test_a_run_is_repeated_with_what_an_earlier_one_has_read(home: Path, google: Google) -> None:
    launcher(home, "run", "demo", "--backend", "host", "--name", "one")
    google.sheets[SPREADSHEET]["Train"][1][1] = "Another answer."
    done = launcher(home, "run", "demo", "--backend", "host", "--name", "two", "--data-of", "one")
    assert done.returncode == 0, done.stderr
    assert kept(run_dir(home, "two")) == kept(run_dir(home, "one")) != google.sheets[SPREADSHEET]["Train"]
    assert run_dir(home, "two").read_record()["spreadsheet"] == run_dir(home, "one").read_record()["spreadsheet"]
    assert len(google.requests) == 2
    third = launcher(home, "run", "demo", "--backend", "host", "--data-of", "one", "--set", "train_sheet=Other")
    assert third.returncode == 43
    assert "the snapshot has other worksheets than the experiment" in third.stderr


def test_there_must_be_something_to_repeat(home: Path) -> None:
    launcher(home, "run", "demo", "--backend", "host", "--name", "one")
    files = ("--set", "spreadsheet_id=null", "--set", "train_sheet=null", "--set", "datasets_path=data")
    done = launcher(home, "run", "demo", "--backend", "host", "--data-of", "one", *files)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "error: --data-of: the experiment reads no spreadsheet; the hashes of the files that a run read are in its run.json",
    )
    (run_dir(home, "one").spreadsheet / "spreadsheet.json").unlink()
    done = launcher(home, "run", "demo", "--backend", "host", "--data-of", "one")
    assert done.returncode == 2
    assert "--data-of: one has no snapshot of a spreadsheet" in done.stderr


def test_a_run_on_the_cluster_may_repeat_one_of_this_machine(home: Path, google: Google, cluster_api: ClusterApi) -> None:
    controllers.ready(cluster_api)
    launcher(home, "secrets", "push", api=cluster_api)
    launcher(home, "run", "demo", "--backend", "host", "--name", "one")
    google.sheets[SPREADSHEET]["Train"][1][1] = "Another answer."
    settings = [f"--set={name}={value}" for name, value in ON_THE_CLUSTER.items()]
    done = launcher(home, "submit", "demo", "--name", "two", "--data-of", "one", *settings, api=cluster_api)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(cluster_api.objects.get("configmaps", "two")["data"]["read.json"]) == {
        file: (run_dir(home, "one").spreadsheet / file).read_text() for file in ("train.jsonl", "spreadsheet.json")
    }
    assert len(google.requests) == 2

    google.sheets[SPREADSHEET]["Train"][1][1] = "a" * (900 << 10)
    launcher(home, "run", "demo", "--backend", "host", "--name", "long")
    done = launcher(home, "submit", "demo", "--data-of", "long", *settings, api=cluster_api)
    assert (done.returncode, done.stderr) == (
        2,
        "error: --data-of: the snapshot is larger than the 900 KiB of a ConfigMap, and pods would read the current "
        "spreadsheet; save its worksheets as CSV files and set datasets_path to their folder\n",
    )
    assert cluster_api.objects.names("jobs") == ["two"]


def test_a_run_of_this_machine_may_repeat_one_on_the_cluster(home: Path, google: Google, cluster_api: ClusterApi) -> None:
    folder = reader(cluster_api, home)
    again = ("run", "demo", "--backend", "host", "--name", "two", "--data-of", "far")
    Played(cluster_api, "far")
    none = launcher(home, *again, api=cluster_api)
    assert none.returncode == 2
    assert (
        none.stderr == f"error: --data-of: far has no snapshot of a spreadsheet (expected in /dpo/runs/{FOLDER}/far/data/read)\n"
    )
    launcher(home, "run", "demo", "--backend", "host", "--name", "one")
    google.sheets[SPREADSHEET]["Train"][1][1] = "Another answer."
    shutil.copytree(run_dir(home, "one").spreadsheet, folder / "far" / "data" / "read")
    done = launcher(home, *again, api=cluster_api)
    assert done.returncode == 0, done.stderr
    assert kept(run_dir(home, "two")) == kept(run_dir(home, "one")) != google.sheets[SPREADSHEET]["Train"]


def test_each_kind_of_failure_has_its_exit_code(home: Path, google: Google) -> None:
    google.sheets[SPREADSHEET]["Train"][2][2] = ""
    assert launcher(home, "check", "demo").returncode == 43
    assert launcher(home, "check", "demo", "--set", "train_sheet=Trian").returncode == 42
    google.shared = False
    done = launcher(home, "run", "demo", "--backend", "host")
    assert done.returncode == 44
    assert f"is not shared with {EMAIL}" in done.stderr
    assert not (home / "out").exists()


def test_another_node_reads_what_the_first_one_has_kept(tmp_path: Path) -> None:
    given = {"model_name": "m", "spreadsheet_id": "1abc", "train_sheet": "Train", "launch": {"gpus": 0, "nodes": 2}}
    job = plan(Experiment.parse(given), run="big", key="demo", gpus_there=0, node=Node(1, "first", 29500))
    first = RunDir(tmp_path / "runs" / "big")
    files = Spreadsheet("1abc", "2026-11-24T10:11:12+00:00", (Worksheet("train", "Train", (("a",),)),)).files
    first.create({first.experiment: "{}"} | {first.spreadsheet / name: text for name, text in files.items()}, {"run": "big"})
    assert reading_for(job, RunDir(first.path, 1), tmp_path, {}, None, print).copy == first.spreadsheet


@pytest.mark.parametrize(("cell", "fits"), [("é", True), ("é" * (450 << 10), False)])
def test_a_pod_finds_the_cells_in_its_config_map_if_they_fit(cell: str, fits: bool) -> None:
    spec = rendered(datasets_path=None, spreadsheet_id="1abc", train_sheet="Train")
    read = Spreadsheet("1abc", "2026-11-24T10:11:12+00:00", (Worksheet("train", "Train", ((cell,),)),))
    before, after = ([obj for obj in made.objects if obj["kind"] == "ConfigMap"] for made in (spec, with_copy(spec, read)))
    assert len(before) == 1
    assert after == ([{**before[0], "data": {**before[0]["data"], "read.json": bundle(read)}}] if fits else before)
