"""Runs whose checkpoints are copied to a bucket, as real processes: killed at random moments, and resumed in a fresh folder.

Importing torch and TRL takes a rank most of its time: one process imports them, and forks every entry, torchrun and rank.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from launcher.storage import Mirrored, download_folder
from tests.s3.proxy import Fault, FaultProxy
from tests.s3.server import MotoServer
from tests.trainer.forks import HOLD_AT, Forks, kill_all
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.slow

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}
STEPS = 8


def environment(root: Path, cache: Path, **more: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {**KEYS, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", **more}
    return env | {"DPO_RUN_ROOT": str(root), "DPO_DATA_ROOT": str(root), "DPO_CACHE_ROOT": str(cache)}


class Entries:
    """Starts the entry on a run, as a fork."""

    def __init__(self, forks: Forks):
        self.end = forks.end
        self._forks = forks

    def start(self, root: Path, run: RunDir, cache: Path, **more: str) -> int:
        """The process id of the entry on ``run``."""
        return self._forks.start(run.path, environment(root, cache, **more))


@pytest.fixture(scope="module")
def entries(forks: Forks) -> Entries:
    return Entries(forks)


def losses(run: RunDir) -> list[tuple[int, float]]:
    events = [json.loads(line) for line in run.steps.read_text().splitlines()]
    return [(event["step"], event["loss"]) for event in events if event["type"] == "train"]


@pytest.fixture
def proxy(moto: MotoServer) -> Any:
    moto.emptied("models")
    with FaultProxy(moto.url) as proxy:
        yield proxy


@pytest.fixture
def experiment(make_experiment: Make, few_pairs: Path, proxy: FaultProxy) -> Experiment:
    about = {"datasets_path": str(few_pairs), "checkpoint_to": "s3://models/ckpt", "storage_config": {"endpoint_url": proxy.url}}
    hyper = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    return make_experiment(experiment=about, **hyper)


def test_a_run_killed_at_a_random_moment_continues_on_a_fresh_disk_to_the_same_bits(
    tmp_path: Path, experiment: Experiment, new_run: NewRun, entries: Entries
) -> None:
    alone = new_run(tmp_path / "alone", experiment.model_copy(update={"checkpoint_to": None}), "r")
    assert entries.end(entries.start(tmp_path / "alone", alone, tmp_path / "cache")) == 0, alone.rank_log(0).read_text()
    place = Mirrored.of(experiment, "r", KEYS)
    assert place is not None
    killed = new_run(tmp_path / "disk-1", experiment, "r")
    entry = entries.start(tmp_path / "disk-1", killed, tmp_path / "cache", **{HOLD_AT: str(STEPS)})
    wait_for(place.steps, seconds=PATIENCE)
    time.sleep(random.random() * 0.5)
    kill_all(entry)
    entries.end(entry)
    shutil.rmtree(tmp_path / "disk-1")
    run = new_run(tmp_path / "disk-2", experiment, "r")
    assert entries.end(entries.start(tmp_path / "disk-2", run, tmp_path / "cache")) == 0, run.rank_log(0).read_text()
    log = run.rank_log(0).read_text()
    assert f"from {place.uri}, with metrics and record\n" in log
    assert f"checkpoint-{STEPS} is in {place.uri} (" in log
    assert losses(run) == losses(alone)
    assert len(losses(run)) == STEPS
    name = "adapter/adapter_model.safetensors"
    assert (run.path / name).read_bytes() == (alone.path / name).read_bytes()
    assert place.steps()[-1] == STEPS
    assert len(place.steps()) <= 2
    record = run.read_record()
    assert [one["number"] for one in record["attempts"]] == [1, 2]
    kept = place.record()
    assert kept is not None
    assert kept["outcome"] == record["outcome"]
    download_folder(f"{place.uri}/adapter", tmp_path / "down", storage=place.storage, env=KEYS)
    assert (tmp_path / "down" / "adapter_model.safetensors").read_bytes() == (run.path / name).read_bytes()


@pytest.mark.parametrize("mode", ["continue", "merge"])
def test_a_run_that_started_from_an_adapter_resumes_where_neither_its_disk_nor_that_adapter_is(
    tmp_path: Path, experiment: Experiment, new_run: NewRun, entries: Entries, tiny_model: Path, mode: str
) -> None:
    original = tmp_path / "elsewhere" / "team" / "sft"
    written(tiny_model, original)
    h = experiment.hyperparameters.model_copy(update={"target_modules": ("q_proj",), "r": 4, "lora_alpha": 8, "max_steps": 6})
    experiment = experiment.model_copy(update={"adapter": str(original), "adapter_mode": mode, "hyperparameters": h})
    alone = new_run(tmp_path / "alone", experiment.model_copy(update={"checkpoint_to": None}), "r")
    assert entries.end(entries.start(tmp_path / "alone", alone, tmp_path / "cache")) == 0, alone.rank_log(0).read_text()
    place = Mirrored.of(experiment, "r", KEYS)
    assert place is not None
    killed = new_run(tmp_path / "disk-1", experiment, "r")
    entry = entries.start(tmp_path / "disk-1", killed, tmp_path / "cache-1", **{HOLD_AT: "6"})
    wait_for(place.steps, seconds=PATIENCE)
    kill_all(entry)
    entries.end(entry)
    for gone in ("disk-1", "cache-1", "elsewhere"):
        shutil.rmtree(tmp_path / gone)
    run = new_run(tmp_path / "disk-2", experiment, "r")
    assert entries.end(entries.start(tmp_path / "disk-2", run, tmp_path / "cache-2")) == 0, run.rank_log(0).read_text()
    assert "resumes from checkpoint-" in run.rank_log(0).read_text()
    assert losses(run) == losses(alone)
    name = "adapter/adapter_model.safetensors"
    assert (run.path / name).read_bytes() == (alone.path / name).read_bytes()
    assert run.read_record()["adapter"] == alone.read_record()["adapter"]


def written(model: Path, adapter: Path) -> None:
    """An adapter that changes the model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(adapter)


def test_a_run_without_credentials_ends_with_44_and_one_without_a_bucket_with_42_before_torch_is_loaded(
    tmp_path: Path, experiment: Experiment, new_run: NewRun
) -> None:
    nowhere = experiment.model_copy(update={"checkpoint_to": "s3://nowhere/ckpt"})
    for found, more, code in ((experiment, {"AWS_ACCESS_KEY": "", "AWS_SECRET_KEY": ""}, 44), (nowhere, {}, 42)):
        run = new_run(tmp_path / str(code), found, "r")
        more = {**more, "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_EC2_METADATA_DISABLED": "true"}
        argv = [sys.executable, "-m", "trainer.processes.entrypoint", str(run.path)]
        env = environment(tmp_path / str(code), tmp_path / "cache", **more)
        assert subprocess.run(argv, env=env, timeout=PATIENCE, stdout=subprocess.DEVNULL, check=False).returncode == code
        outcome = run.read_record()["outcome"]
        assert (outcome["state"], outcome["exit_code"]) == ("failed", code)
        assert not run.rank_log(0).exists()


def test_two_nodes_without_a_shared_folder_are_killed_and_resume_from_the_last_whole_checkpoint_to_the_same_bits(
    tmp_path: Path, experiment: Experiment, new_run: NewRun, entries: Entries, proxy: FaultProxy, port: int
) -> None:
    place = Mirrored.of(experiment, "r", KEYS)
    assert place is not None
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4}
    experiment = experiment.model_copy(update={"hyperparameters": experiment.hyperparameters.model_copy(update=settings)})

    def started(name: str, disks: str) -> list[tuple[RunDir, int]]:
        nodes = []
        for node in ("0", "1"):
            root = tmp_path / f"{disks}-{node}"
            run = new_run(root, experiment, name)
            if node == "1":
                RunDir(run.path, 1).update_record(run=name)
            more = {
                "DPO_NNODES": "2",
                "NODE_RANK": node,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "DPO_OWN_RUNS": "1",
            }
            nodes.append((run, entries.start(root, run, tmp_path / "cache", **more)))
        return nodes

    def done(nodes: list[tuple[RunDir, int]]) -> list[RunDir]:
        for number, (run, entry) in enumerate(nodes):
            assert entries.end(entry) == 0, run.rank_log(number).read_text() + run.entry_log.read_text()
        return [run for run, _ in nodes]

    alone, _ = done(started("alone", "alone"))
    # The second checkpoint hangs half uploaded, so that the nodes are killed meanwhile.
    hang = Fault("silent", "PUT", "/r/checkpoint-4/", times=1000)
    proxy.faults.append(hang)
    killed = started("r", "killed")
    wait_for(lambda: hang.hits, seconds=PATIENCE)
    for _, entry in killed:
        kill_all(entry)
    assert all(entries.end(entry) != 0 for _, entry in killed)
    proxy.faults.clear()
    proxy.released.set()
    assert place.steps() == [2]
    first, second = done(started("r", "fresh"))
    names = {path.name for path in (first.path / "checkpoint-2").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "trainer_state.json"} <= names
    assert names == {path.name for path in (second.path / "checkpoint-2").iterdir()}
    assert "resumes from checkpoint-2" in first.rank_log(0).read_text()
    assert [step for step, _ in losses(first)] == [1, 2, 3, 4]
    assert losses(first) == losses(alone)
    name = "adapter/adapter_model.safetensors"
    assert (first.path / name).read_bytes() == (alone.path / name).read_bytes()
    assert place.steps() == [2, 4]
    assert not second.adapter.exists()
