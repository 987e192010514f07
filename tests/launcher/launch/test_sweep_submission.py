"""A sweep on a cluster: a Job a point; the control plane is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, UsageError
from launcher.launch.rendered import Choice
from launcher.launch.submission import Silent
from launcher.launch.sweep import plan_sweep
from launcher.launch.sweep_submission import submit_points
from launcher.launch.swept import Swept, find
from tests.cluster_api import ClusterApi, controllers

CONFIG = """\
demo:
  experiment_id: 1
  model_name: Qwen/Qwen3-0.6B
  datasets_path: data
  hyperparameters: {eval_strategy: "no", model_output_dir: out}
  launch: {gpus: 0, image: registry.example.com/team/dpo@sha256:%s}
""" % ("a" * 64)


@pytest.fixture
def api(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    for name in ("configs", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    controllers.ready(cluster_api)
    return cluster_api


def submit(*axes: str) -> list[str]:
    """Submits the sweep ``grid``; returns the runs that were created."""
    sweep = plan_sweep(Choice("demo", run_name="grid"), axes)
    done = submit_points(sweep, registry=None, data_of=None, anyway=False, listener=Silent())
    return [one.run for _, one in done if one is not None]


def betas(api: ClusterApi) -> dict[str, float]:
    experiments = {name: api.objects.get("configmaps", name)["data"]["experiment.json"] for name in api.objects.names("jobs")}
    return {name: json.loads(text)["hyperparameters"]["beta"] for name, text in experiments.items()}


BETAS = "hyperparameters.beta=0.05,0.1,0.2"


def test_each_point_is_a_job_with_the_sweeps_label_and_a_second_command_creates_only_what_is_missing(api: ClusterApi) -> None:
    assert submit(BETAS) == ["grid-1", "grid-2", "grid-3"]
    assert betas(api) == {"grid-1": 0.05, "grid-2": 0.1, "grid-3": 0.2}
    metadata: dict[str, Any] = api.objects.get("jobs", "grid-2")["metadata"]
    assert metadata["labels"]["dpo-launcher/sweep"] == "grid"
    said = {name.removeprefix("dpo-launcher/"): value for name, value in metadata["annotations"].items()}
    assert (said["sweep"], said["point"], said["settings"]) == ("grid", "2", "hyperparameters.beta=0.1")
    record = json.loads(api.objects.get("configmaps", "grid-2")["data"]["record.json"])
    assert record["sweep"]["axes"] == [BETAS]

    api.objects.delete("jobs", "grid-2")
    for kind, name in (("services", "grid-2"), ("configmaps", "grid-2"), ("configmaps", "grid-2-data")):
        if name in api.objects.names(kind):
            api.objects.delete(kind, name)
    assert submit(BETAS) == ["grid-2"]
    with pytest.raises(UsageError, match=r"run grid-\d exists with other settings"):
        submit("hyperparameters.beta=0.3,0.4")


def test_a_point_with_wrong_data_keeps_all_from_being_created(api: ClusterApi) -> None:
    with pytest.raises(ExperimentError, match=r"data/none\.csv not found"):
        submit("train_filename=training_data.csv,none.csv")
    assert api.objects.names("jobs") == []


def test_a_sweep_is_found_stopped_and_resumed_by_its_name(api: ClusterApi) -> None:
    submit(BETAS)
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    assert [(one.run, str(one.point), one.state) for one in found.outcomes()] == [
        ("grid-1", "beta=0.05", "starting"),
        ("grid-2", "beta=0.1", "starting"),
        ("grid-3", "beta=0.2", "starting"),
    ]
    controllers.complete(api, "grid-1")
    found.stop(now=False, say=lambda _: None, warn=lambda _: None)
    assert [api.objects.get("jobs", name)["spec"].get("suspend") for name in ("grid-1", "grid-2", "grid-3")] == [
        False,
        True,
        True,
    ]
    assert sorted(found.resume_there()) == ["grid-2", "grid-3"]
    assert [api.objects.get("jobs", name)["spec"].get("suspend") for name in ("grid-2", "grid-3")] == [False, False]
    (_, run) = find("grid-2", cluster=True, namespace=None)  # type: ignore[misc]
    assert run.name == "grid-2"
