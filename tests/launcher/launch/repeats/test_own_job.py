"""A point of a sweep in one Job gets a Job of its own; the control plane is played."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from launcher.backends.status.state import explained, run_status
from launcher.errors import LauncherError, UsageError
from launcher.launch.removing import remove
from launcher.launch.repeats.remaining import resume_points
from launcher.launch.repeats.resume import resumption
from launcher.launch.sweeps.found import Swept, find
from tests.cluster_api import ClusterApi, controllers, kubelet
from tests.cluster_api.certificates import served as certified
from tests.cluster_api.played import archived, reader
from tests.launcher.launch.grid import began, pods_at, point, served, states, stopped_alone


@pytest.fixture
def api(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    return served(cluster_api, tmp_path, monkeypatch)


def failed_alone(api: ClusterApi, tmp_path: Path) -> Any:
    """The sweep whose first point failed by itself, with two others running, and the backend."""
    where = began(api, tmp_path)
    failed(api, pods_at(api, "Running")[0])
    controllers.count_indexes(api, "grid")
    for pod in pods_at(api, "Pending").values():
        kubelet.starts(api, pod)
    assert [state for _, state in states()] == ["failed", "running", "running"]
    return where


def failed(api: ClusterApi, pod: str) -> None:
    controllers.terminated(api, pod, 45, message='{"code": 45, "sentence": "no room", "state": "failed"}')


def own_pod(api: ClusterApi) -> str:
    """The pod of the first point's own Job, running."""
    (made,) = controllers.make_pods(api, "grid-1")
    assert kubelet.starts(api, made) == "Running"
    return made


def test_a_stopped_point_is_resumed_in_a_job_of_its_own_beside_its_running_sweep(api: ClusterApi, tmp_path: Path) -> None:
    where = stopped_alone(api, tmp_path)
    before, pods = api.objects.get("jobs", "grid"), pods_at(api, "Running")
    for path in (tmp_path / "configs", tmp_path / "data"):
        shutil.rmtree(path)  # nothing of this machine is read
    run = resumption(where, point("grid-1"), lambda _: None).start()
    assert (run.name, run.job, run.sweep, run.point, run.settings) == (
        ("grid-1", "grid-1", "grid", 1, ("hyperparameters.beta=0.05",))
    )
    assert api.objects.get("jobs", "grid")["spec"] == before["spec"]
    assert pods_at(api, "Running") == pods, "its siblings are untouched"
    whole, own = (api.objects.get("configmaps", name)["data"] for name in ("grid", "grid-1"))
    assert own["experiment.json"] == whole["0-experiment.json"], "the pod compares it with the one in the run's folder"
    assert json.loads(own["record.json"])["folder"] == json.loads(whole["0-record.json"])["folder"]
    assert api.objects.get("configmaps", "grid-1-data")["data"] == api.objects.get("configmaps", "grid-data")["data"]
    mine, theirs = (api.objects.get("jobs", name)["spec"]["template"]["spec"]["containers"][0] for name in ("grid-1", "grid"))
    assert (mine["image"], mine["resources"]) == (theirs["image"], theirs["resources"])
    assert "DPO_STOP" not in {one["name"] for one in mine["env"]}

    (made,) = controllers.make_pods(api, "grid-1")
    assert kubelet.starts(api, made) == "Running"
    assert states() == [("grid-1", "running"), ("grid-2", "running"), ("grid-3", "running")], "it is listed once"
    controllers.terminated(api, made, 0)
    controllers.complete(api, "grid-1")
    assert [state for _, state in states()] == ["done", "running", "running"]
    (told,) = remove("grid-1", cluster=True, namespace=None)
    assert told.startswith("grid-1: removed Job grid-1")
    assert api.objects.names("jobs") == ["grid"]
    assert pods_at(api, "Running") == pods
    assert [state for _, state in states()] == ["done", "running", "running"], "as it ended, and not as before its own Job"


def test_a_point_that_failed_by_itself_is_resumed_in_a_job_of_its_own_and_its_sweeps_job_never_starts_it_again(
    api: ClusterApi, tmp_path: Path
) -> None:
    where = failed_alone(api, tmp_path)
    pods = pods_at(api, "Running")
    said: list[str] = []
    resumption(where, point("grid-1"), said.append).start()
    assert said[0] == "grid-1: it gets its own Job; the other points of grid are not touched"
    assert pods_at(api, "Running") == pods
    own_pod(api)
    assert states() == [("grid-1", "running"), ("grid-2", "running"), ("grid-3", "running")]

    failed(api, pods[2])
    controllers.terminated(api, pods[1], 0)
    controllers.count_indexes(api, "grid")
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    assert resume_points(found, lambda _: None) == ["grid-3"]
    controllers.make_pods(api, "grid")
    assert kubelet.starts(api, pods_at(api, "Pending")[0]) == "Failed", "two pods must not write to one folder"
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["running", "starting", "starting"]


def test_a_point_of_a_sweep_that_was_stopped_as_a_whole_is_resumed_alone(api: ClusterApi, tmp_path: Path) -> None:
    controllers.play(api)
    where = began(api, tmp_path)
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    found.stop(now=False, say=lambda _: None, warn=lambda _: None)
    resumption(where, point("grid-1"), lambda _: None).start()
    assert [state for _, state in states()] == ["running", "stopped", "stopped"]
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    assert resume_points(found, lambda _: None) == ["grid-2", "grid-3"]
    assert [state for _, state in states()] == ["running", "running", "starting"]
    assert pods_at(api, "Running").keys() == {0, 1}
    kubelet.heeds(api, pods_at(api, "Running")[0])
    assert pods_at(api, "Running").keys() == {1}, "two pods must not write to one folder"


def test_a_point_whose_own_job_is_removed_is_shown_as_it_ended_there_and_can_be_resumed_again(
    api: ClusterApi, tmp_path: Path
) -> None:
    where = failed_alone(api, tmp_path)
    resumption(where, point("grid-1"), lambda _: None).start()
    controllers.terminated(api, own_pod(api), 46, message='{"code": 46, "sentence": "the loss is NaN", "state": "failed"}')
    controllers.fail(api, "grid-1", "PodFailurePolicy", "failed with exit code 46")
    (told,) = remove("grid-1", cluster=True, namespace=None)
    assert told.startswith("grid-1: removed Job grid-1")
    now = run_status(where, point("grid-1")).known
    assert (now.state, now.exit_code, now.sentence) == ("failed", 46, "the loss is NaN"), "not exit 45 of the sweep's pod"
    assert now.ended is not None
    assert "the loss is NaN" in explained(where, point("grid-1")).why.sentence
    assert states()[0] == ("grid-1", "failed")
    with pytest.raises(UsageError, match="is one point of the sweep grid"):
        list(remove("grid-1", cluster=True, namespace=None))
    resumption(where, point("grid-1"), lambda _: None).start()
    own_pod(api)
    assert states()[0] == ("grid-1", "running")


def test_a_point_whose_own_job_a_person_has_deleted_is_shown_as_its_folder_tells_or_as_lost(
    api: ClusterApi, tmp_path: Path
) -> None:
    where = failed_alone(api, tmp_path)
    resumption(where, point("grid-1"), lambda _: None).start()
    api.objects.delete("jobs", "grid-1")
    status = where.status(point("grid-1"))
    assert (status.state, status.sentence) == ("lost", "its own Job was deleted; how it ended is unknown")
    reader(api, tmp_path / "claim")
    outcome = {"state": "done", "exit_code": 0, "sentence": None}
    folder = tmp_path / "claim" / str(point("grid-1").path).lstrip("/")
    archived(folder.parent, folder.name, run_dot_json=json.dumps({"run": "grid-1", "outcome": outcome}))
    assert where.status(point("grid-1")).state == "done"


def test_a_point_whose_own_job_cannot_be_created_is_as_it_was(api: ClusterApi, tmp_path: Path) -> None:
    where = failed_alone(api, tmp_path)
    ready = resumption(where, point("grid-1"), lambda _: None)
    api.fail(403, r"/jobs\b", method="POST", message="exceeded quota", reason="Forbidden")
    with pytest.raises(LauncherError, match="exceeded quota"):
        ready.start()
    status = where.status(point("grid-1"))
    assert (status.state, status.exit_code, status.sentence) == ("failed", 45, "no room")


def test_the_job_of_a_resumed_point_has_the_sweeps_certificates_and_data_that_are_no_text(
    api: ClusterApi, tmp_path: Path
) -> None:
    _, authority = certified(tmp_path)
    table = tmp_path / "data" / "training_data.parquet"
    pq.write_table(pa.table({"prompt": ["Why?"], "chosen": ["Because."], "rejected": ["No."]}), table)
    file = tmp_path / "configs" / "demo.yml"
    file.write_text(
        file.read_text().replace("gpus: 0,", f"gpus: 0, ca_bundle: {authority},") + f"  train_filename: {table.name}\n"
    )
    where = stopped_alone(api, tmp_path)
    pem = authority.read_text()
    authority.unlink()
    resumption(where, point("grid-1"), lambda _: None).start()
    assert api.objects.get("configmaps", "grid-1-ca")["data"] == {"ca.pem": pem}
    (sent,) = api.objects.get("configmaps", "grid-1-data")["binaryData"].values()
    assert base64.b64decode(sent) == table.read_bytes()
