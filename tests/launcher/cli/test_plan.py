"""``launcher plan`` as a person types it: whole outputs for a fixed GPU, and what it takes from earlier runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.s3.server import MotoServer
from tests.waiting import finished

REPOSITORY = Path(__file__).parents[3]
CONFIG = """\
tune:
  experiment_id: 1
  model_name: Qwen/Qwen3-0.6B
  datasets_path: data
  hyperparameters: {max_steps: 10, model_output_dir: out}
"""
ROWS = "prompt,chosen,rejected\nWhy?,Because it is so.,No.\nHow?,So.,What?\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "configs" / "tune.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text(ROWS)
    return tmp_path


def plan(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """On a machine without a GPU, whose network answers nothing."""
    return finished(
        [sys.executable, "-m", "launcher", "plan", *args],
        cwd=home,
        env={**os.environ, "HOME": str(home), "CUDA_VISIBLE_DEVICES": "", "HF_ENDPOINT": "http://127.0.0.1:9", **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def as_json(home: Path, *args: str, **env: str) -> dict[str, Any]:
    done = plan(home, *args, "--json", **env)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def test_an_experiment_for_the_cpu_is_planned_for_a_gpu_with_the_image_and_the_options_that_train_there(home: Path) -> None:
    sizes = str(REPOSITORY / "configs/models/Qwen/Qwen3-0.6B/config.json")
    (home / "configs" / "tune.yml").write_text(f"{CONFIG}  launch: {{gpus: 0}}\n")
    printed = plan(home, "tune", "--gpu", "RTX 4090", "--model-config", sizes).stdout
    assert "tune (configs/tune.yml) on RTX 4090" in printed
    assert re.search(r"^image +cuda,", printed, re.MULTILINE)
    assert "launcher submit tune --gpus 1 --gpu NVIDIA-GeForce-RTX-4090\n" in printed
    flat = " ".join(printed.split())
    assert (
        "configs/tune.yml says launch.gpus: 0, which trains on the CPU; "
        "train on the GPU with: launcher run tune --set launch.gpus=1"
    ) in flat
    on_cpu = plan(home, "tune", "--model-config", sizes).stdout
    assert re.search(r"^image +cpu,", on_cpu, re.MULTILINE)
    assert "which trains on the CPU" not in on_cpu


def test_a_model_of_a_bucket_is_planned_for_by_its_config(home: Path, moto: MotoServer):
    sizes = REPOSITORY / "configs/models/Qwen/Qwen3-0.6B/config.json"
    moto.emptied("models").put_object(Bucket="models", Key="base/config.json", Body=sizes.read_bytes())
    (home / "configs" / "tune.yml").write_text(
        f"{CONFIG}  storage_config: {{endpoint_url: '{moto.url}'}}\n".replace("Qwen/Qwen3-0.6B", "s3://models/base")
    )
    (home / ".env").write_text("AWS_ACCESS_KEY=x\nAWS_SECRET_KEY=y\nAWS_REGION=us-east-1\n")
    found = as_json(home, "tune", "--gpu", "RTX 4090")
    assert (found["parameters"], found["sizes_from"]) == (596_049_920, "s3://models/base/config.json")


def test_what_a_run_needs_is_said_in_a_table(home: Path):
    done = plan(home, "tune", "--gpu", "RTX 4090")
    sizes = REPOSITORY / "configs/models/Qwen/Qwen3-0.6B/config.json"
    expected = f"""\
experiment  tune (configs/tune.yml) on RTX 4090
model       Qwen/Qwen3-0.6B: 596,049,920 parameters; trains a LoRA adapter of rank 16
sizes       from {sizes}
data        2 pairs, ≤ 300 tokens per epoch, longest sequence ≤ 85 (upper bound: one token per byte)
a step      8 pairs, at most 164 tokens per forward pass; no gradient checkpointing
image       cuda, built from this checkout; the host backend needs none

memory          GiB
weights        1.11  16-bit
adapter        0.04  10,092,544 weights, 4 bytes each
gradients      0.04  4 bytes per trained weight
optimizer      0.08  adamw_torch, fused
activations    0.28  164 tokens in a packed pass, no gradient checkpointing
logits         0.01  28 answer tokens, in chunks of 28
runtime        0.60  CUDA context and fragmentation
total          2.15  of 23.99

time        at most 1 s: 10 steps, ≤ 1,640 tokens, 3.4e+12 FLOPs at 40% of 165.2 TFLOP/s
verdict     fits: about 2.15 GiB per GPU of 23.99 GiB (21.59 GiB usable: gpu_memory_utilization 0.9)
cluster     launcher submit tune --gpu NVIDIA-GeForce-RTX-4090
"""
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_what_does_not_fit_is_told_with_what_would(home: Path):
    done = plan(home, "tune", "--gpu-memory", "8GiB", "--set", "hyperparameters.full_finetuning=true")
    expected = """\
verdict     does not fit: about 10.41 GiB per GPU of 8.00 GiB (7.20 GiB usable: gpu_memory_utilization 0.9)

the cheapest changes that make it fit:
  --set hyperparameters.optim=adamw_8bit
      7.08 GiB; optimizer state in 8 bits; nearly the same result
  --set launch.parallelism=zero1 --set launch.gpus=4 --set launch.global_batch_size=8
      5.73 GiB; 4 GPUs
  --set launch.parallelism=zero2 --set launch.gpus=2 --set launch.global_batch_size=8
      7.09 GiB; 2 GPUs

recipes of this model that fit (write one with: launcher init --recipe NAME):
  qwen3-0.6b-lora-8gb
"""
    assert (done.returncode, done.stdout[done.stdout.index("verdict") :], done.stderr) == (0, expected, "")


def test_json_has_everything(home: Path):
    found = as_json(home, "tune", "--gpu", "h100", "--gpus", "2", "--nodes", "2", "--parallelism", "zero2")
    assert found["machine"]["world"] == 4
    assert found["machine"]["parallelism"] == "zero2"
    assert found["fits"] is True
    assert found["image"] == "cuda, built from this checkout"
    assert found["node_selector"] == {"nvidia.com/gpu.product": ["NVIDIA-H100-80GB-HBM3"]}
    assert found["estimate"]["total"] == sum(part["size"] for part in found["estimate"]["parts"])
    assert sorted(found) == [
        "changes", "estimate", "fits", "image", "key", "machine", "memory_bytes", "model", "node_selector", "parallelism",
        "parameters", "sizes_from", "usable_share", "verdict", "work",
    ]  # fmt: skip


def test_the_image_is_that_of_the_gpus_that_the_experiment_asks_for_also_on_a_machine_without_one(home: Path):
    images = [as_json(home, "tune", "--set", f"launch.gpus={gpus}")["image"] for gpus in ("1", "auto", "0")]
    assert images == [f"{variant}, built from this checkout" for variant in ("cuda", "cpu", "cpu")]


def test_several_gpus_share_the_work_in_the_simplest_way_that_fits(home: Path):
    full = ("--set", "hyperparameters.full_finetuning=true", "--set", "launch.global_batch_size=16")
    found = as_json(home, "tune", "--gpu", "RTX 3060", "--gpus", "8", *full)
    assert found["machine"]["parallelism"] == "zero1"
    assert found["parallelism"].startswith("parallelism: zero1, optimizer state sharded over the ranks: about ")


def test_without_a_gpu_it_plans_for_the_cpu_and_says_so(home: Path):
    done = plan(home, "tune")
    assert done.stdout.startswith("experiment  tune (configs/tune.yml) on the CPU\n")
    assert "note        no GPU on this machine; plan for one with --gpu 'RTX 4090' or --gpu-memory 24GiB\n" in done.stdout


def test_the_gpu_of_this_machine_is_asked(home: Path):
    fake = home / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        'case "$1" in -L) echo "GPU 0: NVIDIA GeForce RTX 3090"; echo "GPU 1: NVIDIA GeForce RTX 3090";;\n'
        '*) echo "NVIDIA GeForce RTX 3090, 24576"; echo "NVIDIA GeForce RTX 3090, 24000";; esac\n'
    )
    fake.chmod(0o755)
    found = as_json(home, "tune", PATH=f"{fake.parent}:{os.environ['PATH']}", CUDA_VISIBLE_DEVICES="0,1")
    assert found["machine"]["gpu"] == {
        "name": "RTX 3090",
        "memory": 24000 << 20,
        "flops": 71.2e12,
        "bf16": True,
        "bandwidth": 936e9,
    }
    assert found["machine"]["world"] == 2


def test_a_run_of_the_same_data_has_counted_the_tokens(home: Path):
    before = as_json(home, "tune", "--gpu", "4090")
    assert before["work"] == {
        "pairs": 2, "tokens": 300, "packed": 164, "longest": 85, "longest_pair": 88, "exact": False, "held_out": 0,
        "answer_tokens": None,
    }  # fmt: skip
    show = subprocess.run(
        [sys.executable, "-c", RESOLVED], cwd=home, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    run = home / "out/exp_1/Qwen3-0.6B/runs/first"
    run.mkdir(parents=True)
    (run / "experiment.json").write_text(show.stdout)
    import hashlib

    data = [{"role": "train", "name": "data/training_data.csv", "sha256": hashlib.sha256(ROWS.encode()).hexdigest()}]
    record = {"created": "2026-01-01T00:00:00+00:00", "data": data, "work": {"pairs": 2, "tokens": 60, "longest": 20}}
    (run / "run.json").write_text(json.dumps(record))
    after = as_json(home, "tune", "--gpu", "4090")
    assert after["work"] == {
        "pairs": 2, "tokens": 60, "packed": 33, "longest": 20, "longest_pair": 40, "exact": True, "held_out": 0,
        "answer_tokens": None,
    }  # fmt: skip
    # Other tokens: another limit, or other rows.
    assert not as_json(home, "tune", "--gpu", "4090", "--set", "hyperparameters.max_seq_length=512")["work"]["exact"]
    (home / "data" / "training_data.csv").write_text(ROWS + "Who?,Me.,You.\n")
    assert not as_json(home, "tune", "--gpu", "4090")["work"]["exact"]


RESOLVED = """\
from launcher.experiment.files import load
print(load("tune").experiment.model_dump_json())
"""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--gpu", "4091"), 2, "error: unknown GPU '4091': did you mean 'RTX 4090'?"),
        (("--gpu-memory", "much"), 2, "error: --gpu-memory 'much': expected a size such as 24GiB\n"),
        (("--gpu", "t4", "--gpu-memory", "1G"), 2, "error: --gpu and --gpu-memory exclude each other\n"),
        (("--model-config", "none.json"), 42, "error: --model-config FILE: none.json not found\n"),
        (("--gpu", "t4", "--parallelism", "zero9"), 42, "launch.parallelism: configs/deepspeed/zero9.json not found"),
        (("--set", "model_name=org/unknown"), 48, "no config.json found for org/unknown"),
    ],
)
def test_what_cannot_be_planned_is_said(home: Path, args: tuple[str, ...], code: int, message: str):
    done = plan(home, "tune", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


def test_without_data_the_longest_pairs_are_planned_for(home: Path):
    (home / "configs" / "tune.yml").write_text(f"{CONFIG}  validation_filename: v.csv\n".replace("path: data", "path: answers"))
    done = plan(home, "tune", "--gpu", "RTX 4090")
    assert done.returncode == 0
    assert done.stderr == "warning: answers not found; planned for the longest pairs that max_seq_length allows\n"
    assert (
        "data        1,000 pairs, ≤ 2,048,000 tokens per epoch, longest sequence ≤ 1,024 (assumed: all answers are that long)\n"
        in done.stdout
    )
    found = json.loads(plan(home, "tune", "--gpu", "RTX 4090", "--json").stdout)
    assert (found["missing_data"], found["work"]["longest_pair"], found["work"]["held_out"]) == ("answers", 2048, 100)


def test_a_folder_of_data_that_is_nearly_there_is_a_mistake(home: Path):
    (home / "configs" / "tune.yml").write_text(CONFIG.replace("path: data", "path: dat"))
    done = plan(home, "tune", "--gpu", "RTX 4090")
    assert (done.returncode, "did you mean 'data'?" in done.stderr) == (43, True)


def test_a_file_in_place_of_a_name_means_its_only_experiment(home: Path):
    found = as_json(home, str(REPOSITORY / "configs/recipes/qwen3-8b-lora-24gb.yml"), "--gpu", "RTX 4090")
    assert (found["key"], found["fits"], "recipes" in found) == ("qwen3-8b-lora-24gb", True, False)
    done = plan(home, "configs/none.yml")
    assert (done.returncode, done.stderr.splitlines()[0]) == (42, "error: configs/none.yml: file not found")


def test_on_a_card_that_is_too_small_the_recipes_of_the_model_that_fit_are_named(home: Path):
    recipe = str(REPOSITORY / "configs/recipes/qwen3-8b-lora-24gb.yml")
    done = plan(home, recipe, "--gpu", "RTX 3060")
    expected = "\nrecipes of this model that fit (write one with: launcher init --recipe NAME):\n  qwen3-8b-qlora-12gb\n"
    assert (done.returncode, done.stdout.endswith(expected)) == (0, True)
