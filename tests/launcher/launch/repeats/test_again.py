"""A run of a cluster is repeated from its folder on the claim; the control plane is played."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from launcher.launch.cluster.submission import Silent
from launcher.launch.cluster.submit import submit
from launcher.launch.rendered import Choice
from launcher.launch.repeats.again import compared_runs, repetition
from launcher.runs.made_of import NotRepeatable
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.played import archived, metric, reader

IMAGE = "registry.example.com/team/dpo@sha256:" + "a" * 64
CONFIG = f"""\
demo:
  experiment_id: 1
  model_name: team/model
  datasets_path: data
  hyperparameters: {{eval_strategy: "no", model_output_dir: out, beta: 0.3}}
  launch: {{gpus: 0, image: "{IMAGE}"}}
"""
DATA = "prompt,chosen,rejected\nWhy?,Because.,No.\n"


def config_of(api: ClusterApi, run: str) -> dict[str, Any]:
    """The files that the pods of ``run`` read."""
    return {name: json.loads(text) for name, text in api.objects.get("configmaps", run)["data"].items()}


@pytest.fixture
def api(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    """A cluster with the run ``first``, which is done, and a reader of its folder; no experiment file describes it any more."""
    for name in ("configs", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    controllers.ready(cluster_api)
    submit(Choice("demo", run_name="first"))
    controllers.complete(cluster_api, "first")
    (tmp_path / "configs" / "demo.yml").write_text("")
    config = config_of(cluster_api, "first")
    source = {"role": "train", "name": "x.csv", "sha256": hashlib.sha256(DATA.encode()).hexdigest(), "rows": 1}
    record = {
        **config["record.json"],
        "experiment": config["experiment.json"],
        "data": [source],
        "model": {"identity": "f" * 64, "revision": "c" * 40},
        "template_date": "2026-11-01",
    }
    folder = reader(cluster_api, tmp_path / "claim").parent.parent / "model" / "runs"
    steps = "".join(metric(step) + "\n" for step in (1, 2))
    archived(folder, "first", run_dot_json=json.dumps(record), logs__dpo_train_steps_dot_jsonl=steps)
    return cluster_api


def test_a_cluster_run_is_submitted_again_from_its_record_with_its_image_by_digest(api: ClusterApi, tmp_path: Path) -> None:
    done = repetition("first", anyway=False, cluster=True, namespace=None).submit(None, follows=False, listener=Silent())
    assert (done.run, done.image, api.objects.names("jobs")) == ("first-again", IMAGE, ["first", "first-again"])
    first, again = config_of(api, "first"), config_of(api, "first-again")
    assert again["experiment.json"] == first["experiment.json"]
    assert again["record.json"]["template_date"] == "2026-11-01"
    assert again["record.json"]["inputs"] == {"datasets_path": "data"}
    assert again["record.json"]["again"]["of"] == "first"
    assert again["record.json"]["again"]["model"] == {"identity": "f" * 64, "revision": "c" * 40}
    assert api.objects.get("configmaps", "first-again-data")["data"] == api.objects.get("configmaps", "first-data")["data"]

    steps = "".join(metric(step) + "\n" for step in (1, 2))
    archived(
        tmp_path / "claim" / "dpo" / "runs" / "out" / "exp_1" / "model" / "runs",
        "first-again",
        logs__dpo_train_steps_dot_jsonl=steps,
    )
    first_run = repetition("first", anyway=False, cluster=True, namespace=None)
    assert compared_runs(first_run.where, first_run.run, done.where, done.on_cluster).losses.are_equal


def test_the_runs_copy_on_the_claim_is_used_where_the_file_was_changed(api: ClusterApi, tmp_path: Path) -> None:
    (tmp_path / "data" / "training_data.csv").write_text(DATA + "How?,So.,What?\n")
    folder = tmp_path / "claim" / "dpo" / "runs" / "out" / "exp_1" / "model" / "runs" / "first" / "data" / "source"
    folder.mkdir(parents=True)
    (folder / "x.csv").write_text(DATA)
    repetition("first", anyway=False, cluster=True, namespace=None).submit(None, follows=False, listener=Silent())
    experiment = config_of(api, "first-again")["experiment.json"]
    place = "/dpo/runs/out/exp_1/model/runs/first/data/source"
    assert (experiment["datasets_path"], experiment["train_filename"]) == (place, "x.csv")
    assert "first-again-data" not in api.objects.names("configmaps")


def test_the_runs_copy_of_its_adapter_is_used_where_the_folder_was_changed(api: ClusterApi, tmp_path: Path) -> None:
    run = tmp_path / "claim" / "dpo" / "runs" / "out" / "exp_1" / "model" / "runs" / "first"
    files = {"adapter_config.json": '{"peft_type": "LORA"}', "adapter_model.safetensors": "weights"}
    (run / "start").mkdir()
    for name, text in files.items():
        (run / "start" / name).write_text(text)
    record = json.loads((run / "run.json").read_text())
    record["adapter"] = {"name": "/dpo/cache/sft", "revision": None}
    record["adapter"]["sha256"] = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    record["inputs"] = {**record["inputs"], "adapter": "sft"}
    (run / "run.json").write_text(json.dumps(record))
    repetition("first", anyway=False, cluster=True, namespace=None).submit(None, follows=False, listener=Silent())
    assert config_of(api, "first-again")["experiment.json"]["adapter"] == "/dpo/runs/out/exp_1/model/runs/first/start"


def test_a_changed_file_is_refused_before_the_cluster_is_asked_for_anything_new(api: ClusterApi, tmp_path: Path) -> None:
    (tmp_path / "data" / "training_data.csv").write_text(DATA + "How?,So.,What?\n")
    with pytest.raises(NotRepeatable, match=r"train data\n    recorded: x\.csv, 1 rows, SHA-256 "):
        repetition("first", anyway=False, cluster=True, namespace=None).submit(None, follows=False, listener=Silent())
    assert api.objects.names("jobs") == ["first"]
