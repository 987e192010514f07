"""The whole line as a person types it: the demo's model, the launcher, the real torchrun, the real trainer."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
LAUNCHER = [sys.executable, "-m", "launcher"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Path:
    """A working directory with the demo's files and its model."""
    home = tmp_path_factory.mktemp("home")
    (home / "configs").mkdir()
    shutil.copy(REPOSITORY / "configs" / "demo.yml", home / "configs")
    shutil.copytree(REPOSITORY / "configs" / "demo", home / "configs" / "demo")
    shutil.copytree(demo_model, home / "data" / "demo" / "qwen3-tiny")
    return home


def env(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "DPO_CACHE_ROOT": str(home / "cache"), "COLUMNS": "120"}


def launcher(home: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**env(home), **more}
    return subprocess.run([*LAUNCHER, *args], cwd=home, env=environment, capture_output=True, text=True, timeout=900, check=False)


def run_dir(home: Path, name: str) -> Path:
    return home / "data" / "dpo" / "model" / "exp_demo" / "qwen3-tiny" / "runs" / name


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    steps = run / "logs" / "dpo_train_steps.jsonl"
    lines = steps.read_text().splitlines() if steps.exists() else []
    return [event for event in map(json.loads, lines) if event["type"] == kind]


def processes_of(run: Path) -> dict[int, bytes]:
    """Processes of this machine that carry the run's folder in their environment or command line, and their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:  # ended meanwhile, or another user's
                continue
            if os.fsencode(run) in line + environment:
                found[int(entry.name)] = line
    return found


def test_the_demo_learns_its_preference_on_pairs_that_it_never_saw(home: Path, installed: Callable[..., Any]) -> None:
    shutil.rmtree(home / "configs")  # `launcher demo` of an installation brings them
    done = installed(home, "demo", "--name", "whole", DPO_CACHE_ROOT=str(home / "cache"), COLUMNS="120")
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_dir(home, "whole")
    evaluations = events(run, "eval")
    margins = [event["eval_rewards/margins"] for event in evaluations]
    assert margins == sorted(margins)
    assert margins[0] == pytest.approx(0.0, abs=1e-6), "no difference yet, but for the order in which rows are summed"
    assert margins[-1] > 1.0
    (summary,) = events(run, "summary")
    assert summary["after"]["eval_rewards/accuracies"] >= 0.9
    assert "importing torch and transformers\n" in done.stdout, "printed while nothing else can be"
    assert "fast path on: same loss and gradient as TRL on the first pairs (" in done.stdout
    assert "on validation pairs, which were not trained on:" in done.stdout
    assert summary["after"]["eval_rewards/chosen"] > 0, "the chosen answers became more likely"
    assert f"adapter     {run / 'adapter'} (28 tensors, read back and compared)" in done.stdout
    record = json.loads((run / "run.json").read_text())
    assert record["outcome"]["state"] == "done"
    assert record["attempts"][0]["exit_code"] == 0
    assert record["health"] == []
    assert processes_of(run) == {}


def test_the_demos_answers_were_vague_and_are_concrete_and_right(home: Path) -> None:
    run = run_dir(home, "whole")
    with (home / "configs" / "demo" / "everyday" / "validation_data.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["question"]: row for row in csv.DictReader(file)}
    samples = [json.loads(line) for line in (run / "evaluation" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 4
    vague = [sample["base"] == rows[sample["prompt"]]["vague"] for sample in samples]
    right = [sample["adapter"] == rows[sample["prompt"]]["concrete"] for sample in samples]
    assert (sum(vague) >= 3, sum(right) >= 3) == (True, True), samples


def test_a_stopped_run_resumes_from_its_checkpoint_in_a_new_run(home: Path) -> None:
    begun = launcher(
        home, "run", "demo", "--backend", "host", "--detach", "--name", "stopped", "--set", "hyperparameters.max_steps=300"
    )
    assert begun.returncode == 0, begun.stderr
    run = run_dir(home, "stopped")
    deadline = time.monotonic() + 600
    while len(events(run, "train")) < 2:
        assert time.monotonic() < deadline, (run / "logs" / "entry.log").read_text()
        time.sleep(0.2)
    assert len(processes_of(run)) >= 3  # the entry, torchrun and a rank
    stopped = launcher(home, "stop", "stopped")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped (exit 143): " in stopped.stdout
    assert processes_of(run) == {}
    step = max(int(checkpoint.name.removeprefix("checkpoint-")) for checkpoint in run.glob("checkpoint-*"))
    assert not (run / "adapter").exists()

    again = launcher(
        home, "run", "demo", "--backend", "host", "--name", "again", "--set", "hyperparameters.resume_from_checkpoint=true",
        "--set", f"hyperparameters.max_steps={step + 2}", "--set", "samples=off",
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert [event["step"] for event in events(run_dir(home, "again"), "train")] == [step + 1, step + 2]
    assert (run_dir(home, "again") / "adapter" / "adapter_model.safetensors").is_file()


def test_a_run_that_is_repeated_from_its_record_has_the_same_losses_bit_for_bit(home: Path) -> None:
    settings = ("max_steps=4", "eval_strategy=no", "save_strategy=no", "load_best_model_at_end=false")
    short = ["--set=samples=off", *(f"--set=hyperparameters.{setting}" for setting in settings)]
    first = launcher(home, "run", "demo", "--backend", "host", "--name", "once", *short, OMP_NUM_THREADS="1")
    assert first.returncode == 0, first.stdout + first.stderr
    done = launcher(home, "again", "once", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("once and once-again: same losses, bit for bit, in 4 of 4 steps\n")
    once, again = (json.loads((run_dir(home, name) / "run.json").read_text()) for name in ("once", "once-again"))
    assert (again["experiment"], again["data"], again["model"]) == (once["experiment"], once["data"], once["model"])
    assert len(once["model"]["identity"]) == 64

    weights = home / "data" / "demo" / "qwen3-tiny" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    refused = launcher(home, "again", "once", "--name", "other", OMP_NUM_THREADS="1")
    weights.write_bytes(before)
    assert refused.returncode == 42
    assert "the base weights differ from those of once" in refused.stderr


def test_wrong_rows_end_the_command_before_anything_is_made(home: Path) -> None:
    file = home / "configs" / "demo" / "everyday" / "broken.csv"
    file.write_text("topic,question,concrete,vague\nbread,How hot?,,It depends.\n")
    done = launcher(home, "run", "demo", "--name", "broken", "--set", "train_filename=broken.csv")
    assert done.returncode == 43
    assert "configs/demo/everyday/broken.csv:2" in done.stderr
    assert not run_dir(home, "broken").exists()


def test_a_drill_kills_and_stops_a_short_version_and_finds_the_same_adapter(home: Path) -> None:
    batch = ["hyperparameters.per_device_train_batch_size=4", "hyperparameters.gradient_accumulation_steps=2"]
    settings = [f"--set={setting}" for setting in batch]
    done = launcher(home, "drill", "demo", "--backend", "host", "--times", "1", "--kill-at", "3", "--json", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    stopped, killed = json.loads(done.stdout)["trials"]
    assert (stopped["how"], stopped["exit_code"], stopped["is_same"]) == ("SIGTERM", 143, True)
    assert (killed["how"], killed["is_same"]) == ("SIGKILL", True)
    assert killed["from_step"] >= 2
    assert not (home / "data" / "dpo" / "model" / "drill").exists(), "what was alike is not kept"


def test_two_nodes_are_two_launchers_over_one_folder(home: Path, port: int) -> None:
    batch = ["per_device_train_batch_size=4", "gradient_accumulation_steps=4", "max_steps=4", "eval_steps=4", "save_steps=4"]
    settings = [f"--set={setting}" for setting in ("samples=off", "launch.nodes=2", *(f"hyperparameters.{one}" for one in batch))]
    argv = [*LAUNCHER, "run", "demo", "--backend", "host", "--name", "both", *settings]
    nodes = []
    for rank in ("1", "0"):  # the second may come first: it waits for the run's folder
        environment = {**env(home), "NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        nodes.append(
            subprocess.Popen(argv, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    said = [node.communicate(timeout=600)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    run = run_dir(home, "both")
    for record in ("run.json", "node-1.json"):
        assert json.loads((run / record).read_text())["outcome"]["state"] == "done"
    assert json.loads((run / "run.json").read_text())["hardware"]["ranks"] == 2
    assert len(events(run, "train")) == 4
    assert (run / "adapter").is_dir()


@pytest.mark.engine
def test_the_demo_learns_the_same_in_a_container(home: Path, cpu_image: str, build_settings: Mapping[str, str]) -> None:
    passive = "launch.env.OMP_WAIT_POLICY=PASSIVE"  # threads that spin take the core of the test beside this one
    done = launcher(home, "run", "demo", "--local", "--name", "contained", "--set", passive, **build_settings)
    assert done.returncode == 0, done.stdout + done.stderr
    run = run_dir(home, "contained")
    record = json.loads((run / "run.json").read_text())
    assert (record["backend"], record["image"], record["outcome"]["state"]) == ("docker", cpu_image, "done")
    assert "on validation pairs, which were not trained on:" in done.stdout
    (summary,) = events(run, "summary")
    assert summary["after"]["eval_rewards/accuracies"] >= 0.9
    mine = [event["eval_loss"] for event in events(run, "eval")]
    assert mine == pytest.approx([event["eval_loss"] for event in events(run_dir(home, "whole"), "eval")], abs=2e-3)
    assert {path.lstat().st_uid for path in run.rglob("*")} == {os.getuid()}
