"""The sweep ``grid`` of three points in one Job, played step by step, for the tests of what is done with its points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.backends.kubernetes.render.together import INDEX
from launcher.launch.cluster.submission import Silent, Submission
from launcher.launch.rendered import Choice
from launcher.launch.sweeps.cluster import submit_in_one_job
from launcher.launch.sweeps.found import Swept, find
from launcher.launch.sweeps.grid import plan_sweep
from tests.cluster_api import ClusterApi, controllers, kubelet

CONFIG = """\
demo:
  experiment_id: 1
  model_name: Qwen/Qwen3-0.6B
  datasets_path: data
  hyperparameters: {eval_strategy: "no", model_output_dir: out}
  launch: {gpus: 0, image: registry.example.com/team/dpo@sha256:%s}
""" % ("a" * 64)
BETAS = "hyperparameters.beta=0.05,0.1,0.2"


def served(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    """The cluster, in a directory with an experiment and its data."""
    for name in ("configs", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    controllers.ready(cluster_api)
    return cluster_api


def submit_in_one(parallel: int, *axes: str) -> Submission | None:
    sweep = plan_sweep(Choice("demo", run_name="grid"), axes)
    return submit_in_one_job(sweep, parallel, registry=None, anyway=False, listener=Silent())


def states() -> list[tuple[str, str]]:
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    return [(one.run, one.state) for one in found.outcomes()]


def pods_at(api: ClusterApi, *states: str) -> dict[int, str]:
    """The pods in these phases, by their indexes."""
    pods = controllers.pods_of(api, "grid")
    found = {pod["metadata"]["name"]: pod for pod in pods if pod["status"].get("phase") in states}
    return {int(pod["metadata"]["labels"][INDEX]): name for name, pod in found.items()}


def began(api: ClusterApi, tmp_path: Path, parallel: int = 2) -> Any:
    """The sweep with its first points running, each in a root of its own, and the backend."""
    submit_in_one(parallel, BETAS)
    controllers.count_indexes(api, "grid")
    for index, pod in pods_at(api, "Pending").items():
        (tmp_path / f"root-{index}" / "tmp").mkdir(parents=True)
        api.commands["default", pod] = tmp_path / f"root-{index}"
        assert kubelet.starts(api, pod) == "Running"
    (where, _) = find("grid-1", cluster=True, namespace=None)  # type: ignore[misc]
    return where


def point(name: str) -> Any:
    (_, run) = find(name, cluster=True, namespace=None)  # type: ignore[misc]
    return run


def stopped_alone(api: ClusterApi, tmp_path: Path) -> Any:
    """The sweep whose first point was stopped alone, with two others running, and the backend."""
    where = began(api, tmp_path)
    where.stop(point("grid-1"))
    kubelet.heeds(api, pods_at(api, "Running")[0])
    controllers.count_indexes(api, "grid")
    for pod in pods_at(api, "Pending").values():
        kubelet.starts(api, pod)
    assert [state for _, state in states()] == ["stopped", "running", "running"]
    return where
