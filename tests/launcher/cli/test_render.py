"""What a person sees of a run on a cluster before it is created, in processes of their own; there is no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.waiting import finished

CONFIG = """\
demo:
  experiment_id: 1
  model_name: ./model
  datasets_path: data
  hyperparameters: {model_output_dir: out}
  launch: {image: registry.example.com/team/trainer:1}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("configs", "data", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")
    return tmp_path


def launcher(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Without an engine, a GPU or a cluster."""
    environment = {**os.environ, "USER": "you", "DOCKER_HOST": "unix:///no/such/engine", "KUBECONFIG": "/no/such/file", **env}
    command = [sys.executable, "-m", "launcher", *args]
    return finished(command, cwd=home, env=environment, capture_output=True, text=True, timeout=300, check=False)


def objects(printed: str) -> dict[str, Any]:
    """By kind; of the two ConfigMaps the one with the experiment."""
    return {one["kind"]: one for one in reversed(list(yaml.safe_load_all(printed)))}


def test_a_cluster_is_rendered_without_one_and_auto_is_one_gpu(home: Path) -> None:
    done = launcher(home, "render", "demo", "--cluster", "--name", "first")
    assert (done.returncode, done.stderr) == (0, "")
    job = objects(done.stdout)["Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert job["metadata"]["annotations"]["dpo-launcher/folder"] == "out/exp_1/model/runs/first"
    assert job["metadata"]["labels"]["dpo-launcher/user"] == "you"
    assert "namespace" not in job["metadata"]
    assert launcher(home, "render", "demo", "--backend", "kubernetes", "--name", "first").stdout == done.stdout


def test_the_same_name_is_the_same_text_whoever_asks_again(home: Path) -> None:
    one, two = (launcher(home, "render", "demo", "--cluster", "--name", "first").stdout for _ in range(2))
    assert one == two


def test_kind_and_namespace_are_settings_of_the_experiment(home: Path) -> None:
    done = launcher(
        home, "render", "demo", "--cluster", "--kind", "jobset", "-n", "team", "--set", "launch.nodes=2", "--name", "first"
    )
    found = objects(done.stdout)
    assert set(found) == {"ConfigMap", "JobSet"}
    assert {one["metadata"]["namespace"] for one in found.values()} == {"team"}
    said = json.loads(found["ConfigMap"]["data"]["experiment.json"])
    assert (said["launch"]["kubernetes"]["kind"], said["launch"]["nodes"]) == ("jobset", 2)


def test_of_several_nodes_no_name_is_asked_and_the_kind_is_explained(home: Path) -> None:
    done = launcher(home, "render", "demo", "--cluster", "--set", "launch.nodes=2")
    assert "# kind: Job, as no cluster was asked for JobSet support (--kind jobset renders a JobSet)\n" in done.stdout


def test_the_kind_of_a_run_on_this_machine_is_a_mistake(home: Path) -> None:
    done = launcher(home, "render", "demo", "--backend", "host", "--kind", "job")
    assert (done.returncode, done.stderr) == (2, "error: --kind and --namespace are for a cluster: add --cluster\n")


def test_a_path_that_no_pod_has_is_shown_in_its_file(home: Path) -> None:
    (home / "configs" / "demo.yml").write_text(CONFIG.replace("out}", "/srv/out}"))
    done = launcher(home, "render", "demo", "--cluster")
    assert done.returncode == 42
    assert done.stderr.startswith("error: configs/demo.yml:5:")
    assert "    expected: a relative path without .., e.g. data/dpo/model\n" in done.stderr


def test_a_model_of_this_machine_is_staged_under_its_hash_and_a_change_is_another_one(home: Path) -> None:
    def target() -> str:
        lines = launcher(home, "render", "demo", "--cluster").stdout.splitlines()
        found = [line for line in lines if line.startswith("# `launcher submit` copies")]
        assert len(found) == 1
        return found[0].split()[-1]

    first = target()
    assert first.startswith("/dpo/cache/staged/")
    assert first.endswith("/model")
    (home / "model" / "config.json").write_text("{ }")
    assert target() != first


def test_diff_needs_neither_an_engine_nor_a_gpu_nor_a_cluster(home: Path) -> None:
    done = launcher(home, "diff", "demo", "--set", "launch.gpus=8", "--set", "launch.global_batch_size=16", "-n", "team")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "demo: only these settings differ between a container here and the cluster"
    at = lines.index("time to stop")
    assert lines[at : at + 3] == ["time to stop", "    here     130 s", "    cluster  120 s"]
    assert "GPUs" not in lines
    told = json.loads(launcher(home, "diff", "demo", "--json").stdout)
    assert {"what": "restarts", "here": "none: launcher resume", "there": "up to 3, of all nodes together"} in told
