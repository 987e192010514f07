"""Whole runs on a real cluster, by the command line alone; each begins with its own name and leaves the others alone."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Home
from tests.cluster.place import Place

pytestmark = pytest.mark.cluster

WORDS = {"starting", "running", "stopping", "done", "failed", "stopped", "aborted"}
LONG = ("--set", "hyperparameters.max_steps=80", "--set", "hyperparameters.save_steps=5")


def steps(place: Place, home: Home, run: str) -> list[int]:
    """The training steps in the order in which the run has logged them, over all attempts."""
    text = place.in_reader("cat", f"{home.status(run)['folder']}/logs/dpo_train_steps.jsonl")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["step"] for line in lines if line["type"] == "train"]


@pytest.fixture(autouse=True)
def _nothing_is_left_running(place: Place, home: Home) -> Iterator[None]:
    """A run that a failed test has left would keep the CPU from the next one."""
    yield
    for run in home.json("ps", "--cluster"):
        if run["state"] in ("starting", "running", "stopping"):
            home.launcher("stop", run["run"], "--now", "--cluster")


def several_nodes(place: Place) -> None:
    if place.settings.access_mode != "ReadWriteMany":
        pytest.skip("a run over several nodes needs ReadWriteMany")


def test_what_k8s_made_is_all_that_is_needed(home: Home) -> None:
    done = home.launcher("doctor", "--cluster")
    assert done.returncode == 0, done.stdout


def test_a_run_on_one_node_is_followed_to_its_end_and_read_when_its_pods_are_gone(
    place: Place, home: Home, tmp_path: Path
) -> None:
    done = home.launcher("submit", "demo", "--name", "one", "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"step +6/6", done.stdout), done.stdout
    now = home.status("one")
    assert (now["state"], now["exit_code"], now["step"], now["nodes"]) == ("done", 0, 6, 1)
    assert "one" in {run["run"] for run in home.json("ps", "--cluster")}
    assert home.json("why", "one", "--cluster")["cause"] == "done"

    before = home.launcher("logs", "one", "--cluster").stdout
    assert re.search(r"step +6/6", before)
    place.kubectl("-n", place.namespace, "delete", "pods", "-l", "dpo-launcher/run=one", "--wait=true")
    assert home.launcher("logs", "one", "--cluster").stdout == before

    to = tmp_path / "adapter"
    done = home.launcher("download", "one", "--cluster", "--to", str(to))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in to.rglob("*")} >= {"adapter_config.json", "adapter_model.safetensors"}

    # The model lies on the claim by now, and the reader shows that: nothing else is started for it.
    again = home.launcher("submit", "demo", "--name", "stays", "--set", "hyperparameters.max_steps=1")
    assert re.search(r"staged +/dpo/cache/staged/\S+ \(already there\)", again.stdout), again.stdout + again.stderr
    assert "waiting " not in again.stdout
    assert home.launcher("stop", "stays", "--now", "--cluster").returncode == 0

    assert home.launcher("rm", "one", "--cluster").returncode == 0
    gone = home.status("one")
    assert (gone["state"], gone["exit_code"]) == ("done", 0), "its folder tells it"


def test_a_sweep_is_one_job_of_which_two_points_run_at_the_same_time(place: Place, home: Home) -> None:
    axis = ("--sweep", "hyperparameters.learning_rate=0.001,0.002", "--parallel", "2")
    done = home.launcher("submit", "demo", "--name", "grid", *axis, "--set", "hyperparameters.max_steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = place.get("jobs", "-l", "dpo-launcher/sweep=grid")["items"]
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    for point in ("grid-1", "grid-2"):
        now = home.wait(point, lambda now: now["state"] in ("done", "failed"), 2 * place.settings.patience)
        assert (now["state"], now["exit_code"], now["step"]) == ("done", 0, 2), now
        assert re.search(r"step +2/2", home.launcher("logs", point, "--cluster").stdout)


def test_one_point_of_a_sweep_is_stopped_and_resumed_in_a_job_of_its_own_while_the_other_trains(place: Place, home: Home) -> None:
    axis = ("--sweep", "hyperparameters.learning_rate=0.001,0.002", "--parallel", "2")
    done = home.launcher("submit", "demo", "--name", "pair", *axis, *LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    home.wait("pair-1", lambda now: (now["step"] or 0) >= 6, 2 * place.settings.patience)
    assert home.launcher("stop", "pair-1", "--cluster").returncode == 0
    now = home.status("pair-1")
    assert (now["state"], now["exit_code"]) == ("stopped", 143), now
    assert place.get("jobs", "-l", "dpo-launcher/run=pair")["items"][0]["status"]["failedIndexes"] == "0"
    assert home.status("pair-2")["state"] in ("running", "starting", "done"), "it was not touched"
    assert home.launcher("resume", "pair-1", "--cluster", "--detach").returncode == 0
    for point in ("pair-1", "pair-2"):
        now = home.wait(point, lambda now: now["state"] in ("done", "failed"), 2 * place.settings.patience)
        assert (now["state"], now["exit_code"], now["step"]) == ("done", 0, 80), now


def test_what_admission_refuses_is_said_before_anything_is_created(place: Place, home: Home) -> None:
    for setting, words in (
        ("service_account", "service account nobody not found in the namespace"),
        ("runtime_class", "RuntimeClass nobody not found in the cluster"),
    ):
        done = home.launcher("submit", "demo", "--name", "refused", "--set", f"launch.kubernetes.{setting}=nobody")
        assert done.returncode == 1
        assert f"pod: {words}" in done.stderr
    assert place.get("jobs", "-l", "dpo-launcher/run=refused")["items"] == []


def test_a_run_on_two_nodes_trains_with_two_ranks(place: Place, home: Home) -> None:
    several_nodes(place)
    done = home.launcher("submit", "demo", "--name", "two", "--nodes", "2", "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    now = home.status("two")
    assert (now["state"], now["nodes"], now["step"]) == ("done", 2, 6)
    assert {pod["index"] for pod in now["pods"]} == {0, 1}
    said = home.launcher("logs", "two", "--rank", "all", "--cluster").stdout
    for rank in (0, 1):  # each says that it began, on what, and how it ended
        assert re.search(
            rf"^\[rank {rank}\] rank {rank} of 2 started: node {rank} \(\S+\), local rank 0 of 1$", said, re.MULTILINE
        )
        assert re.search(rf"^\[rank {rank}\] rank {rank} uses the CPU", said, re.MULTILINE)
        assert re.search(rf"^\[rank {rank}\] rank {rank} is done after \d+ s$", said, re.MULTILINE)
    assert home.launcher("logs", "two", "--rank", "1", "--cluster").stdout.startswith("rank 1 of 2 started: node 1 ")


def test_a_pod_that_is_killed_starts_the_gang_again_from_its_checkpoint(place: Place, home: Home) -> None:
    several_nodes(place)
    assert home.launcher("submit", "demo", "--name", "killed", "--nodes", "2", *LONG).returncode == 0
    home.wait("killed", lambda now: (now["step"] or 0) >= 6, place.settings.patience)
    victim = next(pod for pod in home.status("killed")["pods"] if pod["index"] == 1)
    place.kubectl("-n", place.namespace, "delete", "pod", victim["name"], "--grace-period=0", "--force", "--wait=false")
    now = home.wait("killed", lambda now: now["state"] in ("done", "failed"), 2 * place.settings.patience)
    assert (now["state"], now["exit_code"], now["step"]) == ("done", 0, 80)
    assert now["restarts"] >= 1
    # Every fifth step there was a checkpoint, and what came after the one that was taken has been trained again.
    assert re.search(r"resumes from checkpoint-\d+", place.in_reader("cat", f"{now['folder']}/logs/rank-0.log"))
    assert steps(place, home, "killed") == list(range(1, 81))


def test_a_run_that_is_stopped_leaves_a_checkpoint_and_is_resumed(place: Place, home: Home) -> None:
    done = home.launcher("submit", "demo", "--name", "paused", *LONG)
    assert done.returncode == 0, done.stderr
    assert home.status("paused")["state"] in WORDS
    home.wait("paused", lambda now: (now["step"] or 0) >= 3, place.settings.patience)
    inside = home.launcher("shell", "paused", "--cluster", "--", "sh", "-c", "hostname; exit 7")
    assert (inside.returncode, inside.stdout.strip()) == (7, home.status("paused")["pods"][0]["name"].rpartition("-")[0])
    stopped = home.launcher("stop", "paused", "--cluster")
    now = home.status("paused")
    assert (stopped.returncode, now["state"], now["exit_code"]) == (0, "stopped", 143), stopped.stdout + stopped.stderr
    assert home.json("why", "paused", "--cluster")["cause"] == "stopped"
    at = steps(place, home, "paused")[-1]
    assert f"checkpoint-{at}" in place.in_reader("ls", now["folder"]).split()

    resumed = home.launcher("resume", "paused", "--cluster")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert home.status("paused")["state"] == "done"
    assert steps(place, home, "paused") == list(range(1, 81))


def test_a_mistake_in_the_experiment_is_final_at_once(place: Place, home: Home) -> None:
    empty = home.folder / "empty"
    shutil.copytree(home.folder / "model", empty, dirs_exist_ok=True)
    (empty / "model.safetensors").write_bytes(b"")  # a download that was cut: only the trainer reads it
    done = home.launcher("submit", "demo", "--name", "wrong", "--set", "model_name=./empty", "--follow")
    assert done.returncode == 42, done.stdout + done.stderr
    now = home.status("wrong")
    assert (now["state"], now["exit_code"]) == ("failed", 42)
    assert len(place.pods("wrong")) == 1  # nobody has tried again
    found = home.json("why", "wrong", "--cluster")
    assert found["cause"] == "experiment"
    assert found["sentence"].startswith("the experiment is wrong: ")


def test_a_run_that_no_node_takes_says_which_resource_it_waits_for(place: Place, home: Home) -> None:
    cpus, nodes = place.largest_node()
    if place.settings.access_mode != "ReadWriteMany":
        nodes = 1
    # All of what the largest node has, on as many nodes as there are: where the reader is there is not so much left.
    request = ("--nodes", str(nodes), "--set", f"launch.cpus={cpus:g}", "--set", "launch.memory=256Mi")
    batch = ("--set", f"hyperparameters.gradient_accumulation_steps={nodes}")
    done = home.launcher("submit", "demo", "--name", "large", *request, *batch, "--anyway")
    assert done.returncode == 0, done.stdout + done.stderr

    def explained() -> dict[str, Any]:
        return dict(home.json("why", "large", "--cluster"))

    deadline = time.monotonic() + place.settings.patience
    while (found := explained())["cause"] != "unschedulable" and time.monotonic() < deadline:
        time.sleep(1)
    assert found["cause"] == "unschedulable", found
    assert "too little cpu free" in found["sentence"]
    assert found["suggestion"].startswith("lower launch.cpus")
    assert home.status("large")["state"] == "starting"
    assert home.launcher("stop", "large", "--now", "--cluster").returncode == 0
    assert home.status("large")["exit_code"] == 130
