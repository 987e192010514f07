"""The container of a rendered manifest, run by an engine as a kubelet would: it trains, and it says how it ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.backends.kubernetes.render.spec import text
from launcher.launch.cluster_objects import Known, cluster_spec
from launcher.launch.rendered import cluster_job
from tests.kubelet import Kubelet

REPOSITORY = Path(__file__).parents[5]

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture
def home(tmp_path: Path, demo_model: Path) -> Path:
    """A working directory with the demo's experiment, data and model."""
    home = tmp_path / "home"
    shutil.copytree(REPOSITORY / "configs" / "demo", home / "configs" / "demo")
    shutil.copy(REPOSITORY / "configs" / "demo.yml", home / "configs")
    shutil.copytree(demo_model, home / "data" / "demo" / "qwen3-tiny")
    return home


@pytest.fixture
def kubelet(engine: Any, tmp_path: Path) -> Kubelet:
    return Kubelet(engine, tmp_path)


@pytest.fixture
def render(home: Path, kubelet: Kubelet, cpu_image: str) -> Callable[..., str]:
    """The manifest of the demo on one node with these settings; its staged model is put where the manifest says."""

    def rendered(*settings: str, name: str = "one") -> str:
        said = [f"launch.image={cpu_image}", *settings]
        command = ["render", "demo", "--cluster", "--name", name, *(word for one in said for word in ("--set", one))]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *command], cwd=home, env=environment, capture_output=True, text=True, check=True
        )
        experiment = json.loads(config_map(done.stdout)["data"]["experiment.json"])
        staged = kubelet.claim("dpo-cache") / experiment["model_name"].removeprefix("/dpo/cache/")
        shutil.copytree(home / "data" / "demo" / "qwen3-tiny", staged, copy_function=shutil.copyfile, dirs_exist_ok=True)
        return done.stdout

    return rendered


@pytest.fixture
def played(render: Callable[..., str], kubelet: Kubelet) -> Callable[..., str]:
    """A manifest whose torchrun is played by ``tests/fakes``; the settings are its own."""

    def rendered(*, name: str = "one", **env: str) -> str:
        shutil.copytree(REPOSITORY / "tests" / "fakes", kubelet.claim("dpo-cache") / "fakes", dirs_exist_ok=True)
        told = {"PYTHONPATH": "/dpo/cache/fakes:/opt/dpo-launcher", **env}
        return render(*(f"launch.env.{key}='{value}'" for key, value in told.items()), name=name)

    return rendered


def config_map(manifest: str) -> dict[str, Any]:
    return next(one for one in yaml.safe_load_all(manifest) if one["kind"] == "ConfigMap")


def folder(kubelet: Kubelet, manifest: str) -> Path:
    """The run's folder on the claim."""
    job = next(one for one in yaml.safe_load_all(manifest) if one["kind"] == "Job")
    return kubelet.claim("dpo-runs") / job["metadata"]["annotations"]["dpo-launcher/folder"]


def test_the_demo_trains_in_the_pod_that_was_rendered(kubelet: Kubelet, render: Callable[..., str]) -> None:
    manifest = render("hyperparameters.max_steps=2", "hyperparameters.eval_steps=2", "hyperparameters.save_steps=2")
    pod = kubelet.run(manifest)
    assert pod.code == 0, pod.output
    assert pod.last_words == {"code": 0, "sentence": "done", "state": "done"}
    run = folder(kubelet, manifest)
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    record = json.loads((run / "run.json").read_text())
    assert (record["backend"], record["outcome"]["state"], record["cluster"]["kind"]) == ("kubernetes", "done", "Job")
    assert record["experiment"]["experiment_id"] == "demo"
    *of_rank, own = pod.output.splitlines()
    assert own == "one: attempt 1: done, exit 0: done"
    assert all(line.startswith("[rank 0] ") for line in of_rank)
    said = [line.removeprefix("[rank 0] ") for line in of_rank]
    assert said == (run / "logs" / "rank-0.log").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in said if line.startswith("{") and json.loads(line)["type"] == "train"]
    assert steps == [1, 2]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in run.rglob("*")} == {(10001, 10001)}


OPENSHIFT = {"openshift.io/sa.scc.uid-range": "1000650000/10000"}


def test_the_demo_trains_as_any_user_of_group_0_that_a_namespace_gives(
    kubelet: Kubelet, render: Callable[..., str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next(one for one in yaml.safe_load_all(render()) if one["kind"] == "Job")["spec"]["template"]["spec"]["containers"][0]
    kubelet.gives = 1000650000
    for claim, group in (("dpo-runs", 0), ("dpo-cache", 1000650000)):  # a volume without fsGroup, and one with it
        folder_ = kubelet.claim(claim)
        for path in (folder_, *folder_.rglob("*")):
            os.chown(path, 0, group)
    monkeypatch.chdir(home)
    settings = ("hyperparameters.max_steps=1", "hyperparameters.eval_strategy=no", "hyperparameters.load_best_model_at_end=false")
    job, loaded = cluster_job("demo", (f"launch.image={image['image']}", *settings), "one", None)
    manifest = text(cluster_spec(job, loaded, Known(namespace="team", annotations=OPENSHIFT)))
    pod = kubelet.run(manifest)
    assert pod.code == 0, pod.output
    run = folder(kubelet, manifest)
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert {(path.stat().st_uid, path.stat().st_gid) for path in run.rglob("*")} == {(1000650000, 0)}


def test_a_wrong_experiment_ends_with_its_code_and_its_sentence(kubelet: Kubelet, played: Callable[..., str]) -> None:
    pod = kubelet.run(played(FAKE_RANKS="42", FAKE_STEPS="1"))
    assert pod.code == 42, pod.output
    assert pod.last_words == {"code": 42, "sentence": "rank 0 says 42", "state": "failed"}
    assert pod.output.splitlines()[-1] == "one: attempt 1: failed, exit 42: rank 0 says 42"


def test_a_pod_that_is_asked_to_stop_writes_a_checkpoint_and_says_so(kubelet: Kubelet, played: Callable[..., str]) -> None:
    manifest = played(FAKE_STEPS="100000", FAKE_PAUSE="0.05")
    with kubelet.started(manifest) as pod:
        deadline = time.monotonic() + 60
        while b'"step": 2,' not in pod.container.logs():
            assert time.monotonic() < deadline, pod.container.logs()
            time.sleep(0.1)
        assert pod.terminate(grace=60) == 143
    assert pod.last_words == {"code": 143, "sentence": "stopped after a checkpoint", "state": "stopped"}
    pod = kubelet.run(manifest.replace("value: '100000'", "value: '1'"))
    assert pod.code == 0, pod.output
    assert pod.output.splitlines()[-1] == "one: attempt 2: done, exit 0: done"
    assert len(json.loads((folder(kubelet, manifest) / "run.json").read_text())["attempts"]) == 2


def test_a_claim_that_the_pod_cannot_write_is_named_with_what_mends_it(kubelet: Kubelet, played: Callable[..., str]) -> None:
    manifest = played()
    claim = kubelet.claim("dpo-runs")
    os.chown(claim, 0, 0)
    claim.chmod(0o755)
    pod = kubelet.run(manifest)
    assert pod.code == 1
    assert pod.last_words["sentence"] == (
        "/dpo/runs cannot be written by 10001:10001 (permission denied; it belongs to 0:0 with mode 755): make the volume "
        "writable for group 10001, as `chgrp -R 10001 DIR && chmod -R g+rwX DIR` does on its host"
    )
