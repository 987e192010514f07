"""`launcher why` as a person types it, for runs of this machine and of a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.run_dir import RunDir
from tests.cluster_api import controllers
from tests.waiting import finished

LAUNCHER = [sys.executable, "-m", "launcher"]


def launcher(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    there = {**os.environ, "DOCKER_HOST": "unix:///no/such/engine", "HOME": str(home), "CUDA_VISIBLE_DEVICES": "", **env}
    return finished([*LAUNCHER, *args], cwd=home, env=there, capture_output=True, text=True, timeout=300, check=False)


def ended(home: Path, backend: str, code: int, sentence: str, words: str = "") -> RunDir:
    """A run that is over, as its folder tells."""
    run = RunDir.of(home, "data/dpo/model", "1", "m", "first")
    outcome = {"state": "failed", "exit_code": code, "sentence": sentence, "ended": "2026-11-24T12:00:00+00:00"}
    record = {"run": "first", "key": "exp_1", "backend": backend, "created": "2026-11-24T11:00:00+00:00", "outcome": outcome}
    run.create({run.experiment: "{}"}, {**record, "experiment": {"launch": {"memory": "64Gi"}}})
    run.rank_log(0).write_text(words)
    return run


@pytest.mark.parametrize("backend", ["host", "docker"])
def test_a_run_of_this_machine_is_explained_in_one_sentence_with_one_suggestion(tmp_path: Path, backend: str) -> None:
    ended(tmp_path, backend, 45, "out of memory: lower max_seq_length or use gradient checkpointing (CUDA out of memory. Tried)")
    done = launcher(tmp_path, "why", "first")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "why         out of memory on the device: CUDA out of memory. Tried\n"
        "what to do  lower max_seq_length or use gradient checkpointing; list the cheapest changes with: "
        "launcher plan exp_1\n"
    )


def test_the_last_lines_of_the_ranks_tell_where_nobody_left_a_word(tmp_path: Path) -> None:
    ended(
        tmp_path,
        "host",
        1,
        "torchrun failed; logs/entry.log has its words",
        "RuntimeError: Found no NVIDIA driver on your system.\n",
    )
    done = launcher(tmp_path, "why", "first", "--json")
    assert json.loads(done.stdout)["cause"] == "gpu-driver"


def test_of_several_ranks_that_say_the_same_the_first_one_is_quoted(tmp_path: Path) -> None:
    run = ended(tmp_path, "host", 1, "", "torch.OutOfMemoryError: CUDA out of memory on 0\n")
    run.rank_log(1).write_text("torch.OutOfMemoryError: CUDA out of memory on 1\n")
    run.entry_log.write_text("torchrun ends\n")
    assert json.loads(launcher(tmp_path, "why", "first", "--json").stdout)["sentence"].endswith("CUDA out of memory on 0")


def test_json_has_the_cause_as_a_word(tmp_path: Path) -> None:
    ended(tmp_path, "host", 137, "the kernel killed it: the memory of launch.memory (64Gi) ran out")
    assert json.loads(launcher(tmp_path, "why", "exp_1", "--json").stdout) == {
        "run": "first",
        "backend": "host",
        "state": "failed",
        "exit_code": 137,
        "cause": "memory",
        "sentence": "first was killed: it exceeded its memory limit of 64Gi (launch.memory)",
        "suggestion": "raise launch.memory, or lower launch.shm_size (it counts as memory) or dataloader_num_workers",
        "unseen": [],
        "health": [],
    }


def test_a_secret_in_a_log_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HF_TOKEN=hf_secretsecretsecretsecret\n")
    ended(tmp_path, "host", 1, "", "huggingface_hub: 401 Client Error for token hf_secretsecretsecretsecret\n")
    done = launcher(tmp_path, "why", "first")
    assert "401 Client Error" in done.stdout
    assert "secretsecret" not in done.stdout


def test_a_run_of_the_cluster_is_explained_and_what_may_not_be_seen_is_said(tmp_path: Path, cluster_api: Any) -> None:
    labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "run", "dpo-launcher/run": "far"}
    pod = {"metadata": {"labels": {**labels, "batch.kubernetes.io/job-name": "far"}},
           "spec": {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": "x:1"}]}}  # fmt: skip
    job = {"kind": "Job", "metadata": {"name": "far", "labels": labels, "annotations": {"dpo-launcher/folder": "a/runs/far"}},
           "spec": {"completions": 1, "parallelism": 1, "template": pod}}  # fmt: skip
    cluster_api.objects.put(job)
    (name,) = controllers.make_pods(cluster_api, "far", node=None)
    controllers.unschedulable(cluster_api, name, "0/1 nodes are available: 1 Insufficient cpu.")
    cluster_api.deny("list", "events")
    done = launcher(tmp_path, "why", "far", KUBECONFIG=str(cluster_api.kubeconfig))
    assert (done.returncode, done.stderr) == (0, "")
    why, what, unseen = done.stdout.splitlines()
    assert why == f"why         no node can take {name}: the only node has too little cpu free"
    assert what == "what to do  lower launch.cpus, or wait until other pods end"
    assert unseen.startswith("not seen    events: ")


def test_a_run_that_nobody_knows_is_a_mistake_of_the_command_line(tmp_path: Path) -> None:
    done = launcher(tmp_path, "why", "nobody")
    assert done.returncode == 2
