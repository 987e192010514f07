"""A run of a cluster whose Job is gone is resumed from its folder on the claim; the control plane is played."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.kubernetes.submit.preflight import NotReady
from launcher.backends.status.finding import find
from launcher.errors import LauncherError, UsageError
from launcher.launch.cluster.submission import Silent
from launcher.launch.cluster.submit import submit
from launcher.launch.rendered import Choice
from launcher.launch.repeats.resume import resumption
from launcher.runs.run_dir import RunDir
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.played import arrived, reader
from trainer.processes.attempts import write_end
from trainer.processes.verdict import Ending

IMAGE = "registry.example.com/team/dpo@sha256:" + "a" * 64
CONFIG = f"""\
demo:
  experiment_id: 1
  model_name: team/model
  datasets_path: data
  hyperparameters: {{eval_strategy: "no", model_output_dir: out, beta: 0.3}}
  launch: {{gpus: 0, image: "{IMAGE}", memory: 3Gi, env: {{MY_SETTING: "7"}}}}
"""
DATA = "prompt,chosen,rejected\nWhy?,Because.,No.\n"
SOURCE = {"role": "train", "name": "data/training_data.csv", "sha256": hashlib.sha256(DATA.encode()).hexdigest(), "rows": 1}


@pytest.fixture
def api(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    """A cluster on which ``first`` was submitted with another beta than the file's, and a reader of the claim."""
    for name in ("configs", "data", "claim"):
        (tmp_path / name).mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(CONFIG)
    (tmp_path / "data" / "training_data.csv").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.com")
    controllers.ready(cluster_api)
    cluster_api.objects.put({"kind": "Secret", "metadata": {"name": "dpo-secrets"}, "data": {"HF_TOKEN": "eA=="}})
    submit(Choice("demo", ("hyperparameters.beta=0.2",), "first"), listener=Silent())
    reader(cluster_api, tmp_path / "claim")
    return cluster_api


@pytest.fixture
def folder(api: ClusterApi, tmp_path: Path) -> RunDir:
    """What the run left: it has read its data, and was stopped after a checkpoint."""
    run = arrived(api, tmp_path / "claim", "first")
    run.source.mkdir()
    (run.source / "training_data.csv").write_text(DATA)
    run.update_record(data=[SOURCE])
    (run.path / "checkpoint-20").mkdir()
    write_end(run, Ending("stopped", 143, "stopped on request, after a checkpoint"))
    return run


def objects(api: ClusterApi) -> dict[str, Any]:
    """What was created for the run, without what the server adds."""
    found: dict[str, Any] = {}
    for plural in ("services", "configmaps", "jobs"):
        for obj in api.objects.list(plural):
            kept = ("labels", "annotations", "name")
            metadata = {key: dict(value) if isinstance(value := obj["metadata"].get(key), dict) else value for key in kept}
            (metadata["annotations"] or {}).pop("dpo-launcher/resumed", None)
            found[f"{plural}/{metadata['name']}"] = _named_once({**obj, "metadata": metadata}, obj["metadata"]["uid"])
    return found


def _named_once(obj: dict[str, Any], uid: str) -> dict[str, Any]:
    return json.loads(json.dumps(obj).replace(uid, "its own"))  # type: ignore[no-any-return]


def test_a_run_whose_job_is_gone_is_created_again_from_its_folder_by_anybody(
    api: ClusterApi, folder: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects(api)
    api.objects.delete("jobs", "first")
    assert objects(api) == {}
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setenv("DPO_USER", "somebody-else")
    elsewhere = tmp_path / "elsewhere"  # no experiment file, no data
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    said: list[str] = []
    found = resumption(*find("first"), say=said.append)
    assert api.objects.names("jobs") == [], "nothing is created before it is asked for"
    assert found.sentence == "first resumes from checkpoint-20"
    assert said[0] == f"first: its Job is gone; it is created again from /{folder.path.relative_to(tmp_path / 'claim')}"
    run = found.start()
    assert (run.name, run.uid) == ("first", api.objects.get("jobs", "first")["metadata"]["uid"])
    after = objects(api)
    for one in (before, after):  # who renders the pods again does so with other code
        for obj in one.values():
            obj.get("data", {}).pop("record.json", None)
    assert after == before


def test_the_deadline_that_the_plan_gave_is_that_of_the_new_job(api: ClusterApi, folder: RunDir) -> None:
    record = folder.read_record()
    record["experiment"]["launch"]["kubernetes"]["active_deadline"] = "auto"
    folder.update_record(experiment=record["experiment"], cluster={**record["cluster"], "deadline": 5400})
    api.objects.delete("jobs", "first")
    resumption(*find("first"), say=print).start()
    assert api.objects.get("jobs", "first")["spec"]["activeDeadlineSeconds"] == 5400


def test_the_pods_of_a_run_that_was_created_again_take_its_folder(api: ClusterApi, folder: RunDir, tmp_path: Path) -> None:
    api.objects.delete("jobs", "first")
    resumption(*find("first"), say=lambda _: None).start()
    arrived(api, tmp_path / "claim", "first", host="node-2")
    record = folder.read_record()
    assert [(one["number"], one.get("exit_code"), one["host"]) for one in record["attempts"]] == [
        (1, 143, "node-1"),
        (2, None, "node-2"),
    ]
    assert "dpo-launcher/resumed" in api.objects.get("jobs", "first")["metadata"]["annotations"]


def test_what_a_deleted_job_left_behind_is_no_obstacle(api: ClusterApi, folder: RunDir) -> None:
    api.objects.delete("jobs", "first", propagation="Orphan")
    assert api.objects.names("configmaps") == ["first", "first-data"]
    resumption(*find("first"), say=lambda _: None).start()
    owner = api.objects.get("jobs", "first")["metadata"]["uid"]
    left = [*api.objects.list("configmaps"), *api.objects.list("services")]
    assert [obj["metadata"]["ownerReferences"][0]["uid"] for obj in left] == [owner] * 3


def test_data_that_the_run_never_read_come_from_the_directory_where_it_was_submitted(
    api: ClusterApi, folder: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(folder.source)
    folder.update_record(data=[])
    before = api.objects.get("configmaps", "first-data")["data"]
    api.objects.delete("jobs", "first")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UsageError) as raised:
        resumption(*find("first"), say=lambda _: None)
    assert str(raised.value) == (
        "first: its folder has no copy of data/training_data.csv, and this directory does not have the file\n"
        "    hint:     resume it in the directory where it was submitted, or start a new run: launcher submit demo"
    )
    monkeypatch.chdir(tmp_path)
    resumption(*find("first"), say=lambda _: None).start()
    assert api.objects.get("configmaps", "first-data")["data"] == before


def test_changed_data_are_never_taken_for_those_that_the_run_has_read(api: ClusterApi, folder: RunDir, tmp_path: Path) -> None:
    (folder.source / "training_data.csv").write_text("half a cop")
    (tmp_path / "data" / "training_data.csv").write_text(DATA + "How?,So.,What?\n")
    api.objects.delete("jobs", "first")
    with pytest.raises(UsageError, match=r"no copy of data/training_data\.csv"):
        resumption(*find("first"), say=lambda _: None)
    assert api.objects.names("configmaps") == []


def test_preflight_checks_come_before_anything_is_created_again(api: ClusterApi, folder: RunDir) -> None:
    api.objects.delete("jobs", "first")
    api.objects.delete("persistentvolumeclaims", "dpo-cache")
    with pytest.raises(NotReady, match="claim dpo-cache: not found"):
        resumption(*find("first"), say=lambda _: None)
    assert api.objects.names("services") == []


def test_a_run_whose_pods_still_end_is_not_started_beside_them(api: ClusterApi, folder: RunDir) -> None:
    api.objects.is_graceful = True
    (pod,) = controllers.make_pods(api, "first")
    controllers.running(api, pod)
    api.objects.delete("jobs", "first")
    with pytest.raises(UsageError, match="first is stopping"):
        resumption(*find("first"), say=lambda _: None)
    api.objects.delete("pods", pod, grace=0)
    resumption(*find("first"), say=lambda _: None).start()


def test_a_folder_without_a_record_of_how_it_was_started_says_so(api: ClusterApi, folder: RunDir) -> None:
    folder.update_record(experiment=None)
    api.objects.delete("jobs", "first")
    with pytest.raises(LauncherError, match="cannot read how it was started in /dpo/runs/out/exp_1/model/runs/first"):
        resumption(*find("first"), say=lambda _: None)


def test_another_experiment_under_the_name_is_refused_before_anything_is_created(api: ClusterApi, folder: RunDir) -> None:
    api.objects.delete("jobs", "first")
    with pytest.raises(NotReady) as raised:
        submit(Choice("demo", run_name="first"), anyway=True)
    assert "hyperparameters.beta is 0.2 there, 0.3 here" in str(raised.value)
    assert "resume that run with: launcher resume first; or choose another --name" in str(raised.value)
    assert (api.objects.names("jobs"), api.objects.names("configmaps")) == ([], [])


def test_the_same_experiment_under_the_name_resumes_and_that_is_said(api: ClusterApi, folder: RunDir) -> None:
    api.objects.delete("jobs", "first")
    done = submit(Choice("demo", ("hyperparameters.beta=0.2",), "first"))
    place = "/dpo/runs/out/exp_1/model/runs/first"
    assert f"first exists with the same experiment, in {place}: it resumes from checkpoint-20" in done.notices
    assert api.objects.names("jobs") == ["first"]


def test_a_job_of_another_experiment_under_the_name_is_not_started_again(api: ClusterApi, folder: RunDir) -> None:
    (pod,) = controllers.make_pods(api, "first")
    sentence = "run first exists already, with another experiment: /x; take another --name"
    controllers.terminated(api, pod, 2, message=json.dumps({"code": 2, "sentence": sentence, "state": "failed"}))
    controllers.fail(api, "first", "PodFailurePolicy", "failed with exit code 2 matching FailJob rule at index 0")
    with pytest.raises(UsageError, match="remove this one with: launcher rm first; then resume the earlier one"):
        resumption(*find("first"), say=lambda _: None)
