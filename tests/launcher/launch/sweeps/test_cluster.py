"""A sweep on a cluster: a Job a point; the control plane is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.kubernetes.render.together import INDEX
from launcher.backends.status.state import explained
from launcher.backends.stopping import stop
from launcher.cli.sweep import submit_sweep
from launcher.errors import ExperimentError, UsageError
from launcher.launch.cluster.submission import Silent
from launcher.launch.removing import remove
from launcher.launch.rendered import Choice
from launcher.launch.repeats.remaining import resume_points
from launcher.launch.sweeps.cluster import rendered_in_one_job, submit_points
from launcher.launch.sweeps.found import Swept, find
from launcher.launch.sweeps.grid import plan_sweep
from tests.cluster_api import ClusterApi, controllers, kubelet
from tests.launcher.launch.grid import BETAS, began, pods_at, point, served, states, submit_in_one


@pytest.fixture
def api(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    return served(cluster_api, tmp_path, monkeypatch)


def submit(*axes: str) -> list[str]:
    """Submits the sweep ``grid``; returns the runs that were created."""
    sweep = plan_sweep(Choice("demo", run_name="grid"), axes)
    done = submit_points(sweep, registry=None, data_of=None, anyway=False, listener=Silent())
    return [one.run for _, one in done if one is not None]


def betas(api: ClusterApi) -> dict[str, float]:
    experiments = {name: api.objects.get("configmaps", name)["data"]["experiment.json"] for name in api.objects.names("jobs")}
    return {name: json.loads(text)["hyperparameters"]["beta"] for name, text in experiments.items()}


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
    assert sorted(resume_points(found, lambda _: None)) == ["grid-2", "grid-3"]
    assert [api.objects.get("jobs", name)["spec"].get("suspend") for name in ("grid-2", "grid-3")] == [False, False]
    (_, run) = find("grid-2", cluster=True, namespace=None)  # type: ignore[misc]
    assert run.name == "grid-2"


def test_points_in_one_job_have_a_pod_each_whose_index_chooses_its_experiment(api: ClusterApi) -> None:
    rendered = rendered_in_one_job(plan_sweep(Choice("demo", run_name="grid"), [BETAS]), 2)
    done = submit_in_one(2, BETAS)
    assert (
        rendered.owner["spec"]["template"]["spec"]["volumes"]
        == api.objects.get("jobs", "grid")["spec"]["template"]["spec"]["volumes"]
    )
    assert done is not None
    assert (done.run, api.objects.names("jobs")) == ("grid", ["grid"])
    job = api.objects.get("jobs", "grid")
    spec, (container,) = job["spec"], job["spec"]["template"]["spec"]["containers"]
    kept = ("completionMode", "completions", "parallelism", "backoffLimitPerIndex", "podReplacementPolicy")
    assert [spec[key] for key in kept] == ["Indexed", 3, 2, 3, "Failed"]
    assert "maxFailedIndexes" not in spec, "one that fails does not stop the others"
    assert spec["podFailurePolicy"]["rules"][0] == {
        "action": "FailIndex",
        "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [2, 42, 43, 44, 45, 46, 49]},
    }
    field = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    assert container["env"][0] == {"name": "JOB_COMPLETION_INDEX", "valueFrom": field}
    assert {"name": "DPO_CONFIG", "value": "/dpo/config/$(JOB_COMPLETION_INDEX)"} in container["env"]
    assert container["args"][-1] == "/dpo/config/$(JOB_COMPLETION_INDEX)/record.json"
    assert {"name": "DPO_STOP", "value": "/dpo/stops/$(JOB_COMPLETION_INDEX):/tmp/dpo-stop"} in container["env"]
    assert {"name": "stops", "mountPath": "/dpo/stops", "readOnly": True} in container["volumeMounts"]
    stops = {"name": "stops", "configMap": {"name": "grid-stops", "optional": True}}
    assert stops in spec["template"]["spec"]["volumes"], "no point is stopped at first: the ConfigMap does not exist"
    (volume,) = (one["configMap"] for one in spec["template"]["spec"]["volumes"] if one["name"] == "config")
    data = api.objects.get("configmaps", volume["name"])["data"]
    for index, beta in enumerate((0.05, 0.1, 0.2)):
        files = {one["path"]: data[one["key"]] for one in volume["items"] if one["path"].startswith(f"{index}/")}
        assert json.loads(files[f"{index}/experiment.json"])["hyperparameters"]["beta"] == beta
        record = json.loads(files[f"{index}/record.json"])
        assert (record["run"], Path(record["folder"]).name) == (f"grid-{index + 1}", f"grid-{index + 1}")
    assert submit_in_one(2, BETAS) is None, "it exists"
    assert submit(BETAS) == []
    with pytest.raises(UsageError, match=r"run grid-1 exists with other settings"):
        submit_in_one(2, "hyperparameters.beta=0.3,0.4,0.5")


def test_submit_with_parallel_names_the_sweep_and_what_it_created(api: ClusterApi, capsys: pytest.CaptureFixture[str]) -> None:
    def typed() -> str:
        assert submit_sweep(Choice("demo", run_name="grid"), [BETAS], None, None, 2, anyway=False, as_json=False) == 0
        return capsys.readouterr().out

    said = typed()
    assert "sweep       grid: 3 points, 2 at a time\n" in said
    assert "cluster     Job grid in namespace default, context emulator\n" in said
    assert said.endswith("Submitted sweep grid. See it with: launcher status grid --cluster\n")
    assert typed() == "sweep grid exists. See it with: launcher status grid --cluster\n"


def test_the_next_point_starts_when_one_is_over_and_a_point_that_failed_stops_no_other(api: ClusterApi) -> None:
    submit_in_one(1, BETAS)
    controllers.count_indexes(api, "grid")
    assert states() == [("grid-1", "starting"), ("grid-2", "starting"), ("grid-3", "starting")]
    assert list(pods_at(api, "Pending")) == [0]
    (where, run) = find("grid-2", cluster=True, namespace=None)  # type: ignore[misc]
    assert where.status(run).sentence == "waits for its turn: 1 of its sweep's points run at the same time"
    assert explained(where, run).why.sentence == "grid-2 waits for its turn: 1 of its sweep's points run at the same time"

    controllers.running(api, pods_at(api, "Pending")[0])
    assert [state for _, state in states()] == ["running", "starting", "starting"]
    controllers.terminated(api, pods_at(api, "Running")[0], 45, message='{"code": 45, "sentence": "no room", "state": "failed"}')
    controllers.count_indexes(api, "grid")
    controllers.running(api, pods_at(api, "Pending")[1])
    assert [state for _, state in states()] == ["failed", "running", "starting"]
    (_, failed) = find("grid-1", cluster=True, namespace=None)  # type: ignore[misc]
    assert (where.status(failed).exit_code, where.status(failed).sentence) == (45, "no room")
    api.log(pods_at(api, "Running")[1]).write("[rank 0] a line of the second point\n")
    assert "a line of the second point" in "".join(where.read(run))

    for index in (1, 2):
        controllers.terminated(api, pods_at(api, "Running", "Pending")[index], 0)
        controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["failed", "done", "done"]
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    before = api.objects.get("jobs", "grid")["metadata"]["uid"]
    assert "".join(found.log(follow=True)) == ("grid-1  beta=0.05  failed\ngrid-2  beta=0.1  done\ngrid-3  beta=0.2  done\n")
    ((point, name, why),) = found.explained()
    assert (point.number, name, why.why.sentence if why else None) == (1, "grid-1", "out of memory on the device: no room")
    assert resume_points(found, lambda _: None) == ["grid-1"]
    again = api.objects.get("jobs", "grid")
    assert again["metadata"]["uid"] != before, "a Job that ended is created again: a point that is done ends at once"
    owners = {one["metadata"]["ownerReferences"][0]["uid"] for one in api.objects.list("configmaps")}
    assert owners == {again["metadata"]["uid"]}


def test_a_sweep_in_one_job_is_stopped_and_resumed_as_a_whole(api: ClusterApi) -> None:
    controllers.play(api)
    submit_in_one(2, BETAS)
    (where, run) = find("grid-2", cluster=True, namespace=None)  # type: ignore[misc]
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    with pytest.raises(UsageError, match="resume the whole sweep"):
        where.resume(run)
    found.stop(now=False, say=lambda _: None, warn=lambda _: None)
    assert api.objects.get("jobs", "grid")["spec"]["suspend"] is True
    assert [state for _, state in states()] == ["stopped", "stopped", "stopped"]
    assert resume_points(found, lambda _: None) == ["grid-1", "grid-2", "grid-3"]
    assert api.objects.get("jobs", "grid")["spec"]["suspend"] is False
    assert [state for _, state in states()] == ["running", "running", "starting"]


def test_one_point_that_runs_is_stopped_after_a_checkpoint_and_the_others_go_on(api: ClusterApi, tmp_path: Path) -> None:
    where = began(api, tmp_path)
    pods = pods_at(api, "Running")
    where.stop(point("grid-1"))
    assert (tmp_path / "root-0" / "tmp" / "dpo-stop").exists(), "the kubelet shows a new key after a minute only"
    assert not (tmp_path / "root-1" / "tmp" / "dpo-stop").exists()
    assert where.status(point("grid-1")).sentence == "writes a checkpoint"
    assert pods_at(api, "Running") == pods, "no pod is deleted"
    for pod in pods.values():
        kubelet.heeds(api, pod)
    controllers.count_indexes(api, "grid")
    status = where.status(point("grid-1"))
    assert (status.state, status.exit_code, status.sentence) == ("stopped", 143, "stopped on request, after a checkpoint")
    assert [state for _, state in states()] == ["stopped", "running", "starting"]
    assert list(pods_at(api, "Running", "Pending")) == [1, 2], "the next point has its turn"
    assert api.objects.get("jobs", "grid")["status"]["failedIndexes"] == "0", "the cluster does not start it again"
    why = explained(where, point("grid-1")).why
    assert (why.cause, why.sentence) == ("stopped", "grid-1 was stopped on request")
    owners = [one["uid"] for one in api.objects.get("configmaps", "grid-stops")["metadata"]["ownerReferences"]]
    assert owners == [api.objects.get("jobs", "grid")["metadata"]["uid"]]

    for pod in pods_at(api, "Running", "Pending").values():
        controllers.terminated(api, pod, 0)
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["stopped", "done", "done"], "also when the Job has failed indexes"


def test_a_point_that_waits_is_stopped_at_once_and_its_pod_starts_nothing(api: ClusterApi, tmp_path: Path) -> None:
    where = began(api, tmp_path, parallel=1)
    where.stop(point("grid-3"))
    assert [state for _, state in states()] == ["running", "starting", "stopped"]
    for index in (0, 1):
        for pod in pods_at(api, "Pending").values():
            kubelet.starts(api, pod)
        controllers.terminated(api, pods_at(api, "Running")[index], 0)
        controllers.count_indexes(api, "grid")
    (pod,) = pods_at(api, "Pending").values()
    assert kubelet.starts(api, pod) == "Failed"
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["done", "done", "stopped"]


def test_a_pod_whose_commands_are_denied_stops_when_the_kubelet_shows_the_key(api: ClusterApi, tmp_path: Path) -> None:
    where = began(api, tmp_path)
    api.deny("*", "pods/exec")
    where.stop(point("grid-2"))
    assert not (tmp_path / "root-1" / "tmp" / "dpo-stop").exists()
    where.stop(point("grid-1"))
    assert set(api.objects.get("configmaps", "grid-stops")["data"]) == {"0", "1"}
    for pod in pods_at(api, "Running").values():
        kubelet.heeds(api, pod)
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["stopped", "stopped", "starting"]


@pytest.mark.parametrize("is_denied", [False, True])
def test_stop_says_when_a_point_ends_at_the_latest_also_where_its_pod_cannot_be_told_at_once(
    api: ClusterApi, tmp_path: Path, is_denied: bool
) -> None:
    where, said = began(api, tmp_path), list[str]()
    if is_denied:
        api.deny("*", "pods/exec")

    def say(line: str) -> None:
        said.append(line)
        kubelet.heeds(api, pods_at(api, "Running")[0])

    assert stop(where, point("grid-1"), now=False, say=say, warn=said.append).status.state == "stopped"
    late = ", 120 s of them until its pod sees the request, as no command reaches it (pods/exec)" if is_denied else ""
    assert said == [
        "grid-1: waiting for its end; it has not trained a step and writes no checkpoint "
        f"(at most {240 if is_denied else 120} s{late}; kill it now with: launcher stop --now grid-1)"
    ]


def test_stop_of_a_point_that_waits_for_its_turn_waits_for_nothing(api: ClusterApi, tmp_path: Path) -> None:
    where, said = began(api, tmp_path), list[str]()
    assert stop(where, point("grid-3"), now=False, say=said.append, warn=said.append).status.state == "stopped"
    assert said == []


def test_a_point_that_is_killed_loses_its_pod_at_once_and_the_next_one_starts_nothing(api: ClusterApi, tmp_path: Path) -> None:
    where = began(api, tmp_path)
    assert where.stop(point("grid-1"), now=True).state == "aborted"
    controllers.count_indexes(api, "grid")
    assert kubelet.starts(api, pods_at(api, "Pending")[0]) == "Failed"
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["aborted", "running", "starting"]


def test_a_point_that_is_over_is_not_stopped_and_one_of_an_older_sweep_only_with_all(api: ClusterApi, tmp_path: Path) -> None:
    where = began(api, tmp_path)
    controllers.terminated(api, pods_at(api, "Running")[0], 45, message='{"code": 45, "sentence": "no room", "state": "failed"}')
    controllers.count_indexes(api, "grid")
    assert where.stop(point("grid-1")).exit_code == 45
    assert "grid-stops" not in api.objects.names("configmaps")
    api.objects.change("jobs", "grid", lambda one: one["spec"]["template"]["spec"]["volumes"].pop())
    with pytest.raises(UsageError, match=r"grid-2 shares the Job grid with the other points of grid: stop the whole sweep"):
        where.stop(point("grid-2"))


def test_rm_of_one_point_is_refused_while_it_shares_its_job_and_rm_of_the_sweep_removes_all(api: ClusterApi) -> None:
    submit_in_one(3, BETAS)
    controllers.count_indexes(api, "grid")
    for index, pod in pods_at(api, "Pending").items():
        controllers.terminated(api, pod, 45 if index == 2 else 0)
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["done", "done", "failed"]
    with pytest.raises(
        UsageError, match=r"^grid-3 is one point of the sweep grid(.|\n)*remove all points with: launcher rm grid$"
    ):
        list(remove("grid-3", cluster=True, namespace=None))
    assert api.objects.names("jobs") == ["grid"]
    assert len(pods_at(api, "Succeeded", "Failed")) == 3
    assert "grid" in api.objects.names("configmaps")
    (told,) = remove("grid", cluster=True, namespace=None)
    assert told.startswith("grid: removed Job grid")
    assert told.endswith("the folders of its runs stay")
    assert api.objects.names("jobs") == []


def test_rm_of_a_sweep_names_every_point_that_has_not_ended(api: ClusterApi, tmp_path: Path) -> None:
    began(api, tmp_path)
    controllers.terminated(api, pods_at(api, "Running")[0], 0)
    controllers.count_indexes(api, "grid")
    with pytest.raises(UsageError) as refused:
        list(remove("grid", cluster=True, namespace=None))
    assert str(refused.value) == "grid-2 and grid-3 have not ended; stop the sweep first with: launcher stop grid"


@pytest.mark.parametrize(
    ("axis", "why"),
    [
        ("launch.memory=16Gi,32Gi", r"grid-1 and grid-2 differ in their pods"),
        ("launch.kubernetes.queue=team-a,team-b", "a queue of Kueue decides"),
        ("launch.nodes=2,4", "a run on several nodes needs its own Job"),
    ],
)
def test_points_that_cannot_share_a_job_are_named_before_the_cluster_is_asked(api: ClusterApi, axis: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"--parallel: {why}.*; submit the sweep without --parallel"):
        submit_in_one(2, axis)
    assert api.objects.names("jobs") == []
