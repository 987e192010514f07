"""Resuming a sweep on a cluster: which of its points are started again; the control plane is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cli.points import show_status
from launcher.errors import UsageError
from launcher.launch.repeats.remaining import resume_points
from launcher.launch.sweeps.found import Swept, find
from tests.cluster_api import ClusterApi, controllers, kubelet
from tests.launcher.launch.grid import BETAS, began, pods_at, served, states, stopped_alone, submit_in_one


@pytest.fixture
def api(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    return served(cluster_api, tmp_path, monkeypatch)


def swept() -> Swept:
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    return found


def test_a_job_is_not_started_again_while_points_of_it_run_and_what_can_be_typed_is_told(api: ClusterApi) -> None:
    submit_in_one(2, BETAS)
    controllers.count_indexes(api, "grid")
    for pod in pods_at(api, "Pending").values():
        controllers.running(api, pod)
    controllers.terminated(api, pods_at(api, "Running")[0], 45)
    controllers.count_indexes(api, "grid")
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    assert len({run.owner for _, run, _ in found.runs}) == 1
    before = api.objects.get("jobs", "grid")["metadata"]["uid"]
    with pytest.raises(UsageError) as refused:
        resume_points(found, lambda _: None)
    assert str(refused.value) == (
        "grid-1 is not resumed: grid-2 and grid-3 have not ended, and --parallel is 2\n"
        "    hint:     resume one now, in its own Job, with: launcher resume grid-1; "
        "or all when the others have ended with: launcher resume grid"
    )
    assert api.objects.get("jobs", "grid")["metadata"]["uid"] == before


def test_a_point_that_failed_is_resumed_beside_the_others_where_the_sweeps_parallel_allows_one_more(
    api: ClusterApi, tmp_path: Path
) -> None:
    began(api, tmp_path, parallel=3)
    pods = pods_at(api, "Running")
    controllers.terminated(api, pods[0], 45)
    controllers.terminated(api, pods[1], 46)
    controllers.count_indexes(api, "grid")
    before = api.objects.get("jobs", "grid")["metadata"]["uid"]
    assert resume_points(swept(), lambda _: None) == ["grid-1", "grid-2"]
    assert api.objects.names("jobs") == ["grid", "grid-1", "grid-2"]
    assert api.objects.get("jobs", "grid")["metadata"]["uid"] == before
    for name in ("grid-1", "grid-2"):
        for pod in controllers.make_pods(api, name):
            kubelet.starts(api, pod)
    assert [state for _, state in states()] == ["running", "running", "running"]

    (pod,) = controllers.pods_of(api, "grid-2")
    controllers.terminated(api, pod["metadata"]["name"], 45)
    controllers.fail(api, "grid-2", "PodFailurePolicy", "failed with exit code 45")
    assert resume_points(swept(), lambda _: None) == ["grid-2"], "its own Job is free"


def test_status_of_a_sweep_that_runs_names_the_points_that_can_be_resumed_beside_the_others(
    api: ClusterApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began(api, tmp_path)
    show_status(swept(), False)
    assert capsys.readouterr().out.endswith("0 of 3 points are done. Follow it with: launcher logs -f grid\n")
    controllers.terminated(api, pods_at(api, "Running")[0], 45)
    controllers.count_indexes(api, "grid")
    show_status(swept(), False)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "grid-1 did not finish. Resume one beside the others with: launcher resume grid-1"


def test_points_beyond_parallel_are_named_and_the_others_are_resumed(api: ClusterApi, tmp_path: Path) -> None:
    began(api, tmp_path, parallel=2)
    pods = pods_at(api, "Running")
    for index in (0, 1):
        controllers.terminated(api, pods[index], 45)
    controllers.count_indexes(api, "grid")
    said: list[str] = []
    assert resume_points(swept(), said.append) == ["grid-1"]
    assert said[-1].startswith("grid-2 is not resumed: grid-3 has not ended, and --parallel is 2\n")


def test_a_sweep_of_which_nothing_can_be_resumed_says_what_still_runs(api: ClusterApi, tmp_path: Path) -> None:
    began(api, tmp_path)
    said: list[str] = []
    assert resume_points(swept(), said.append) == []
    assert said == [
        "grid: nothing to resume; grid-1, grid-2 and grid-3 have not ended. Follow the sweep with: launcher logs -f grid"
    ]


def test_a_point_of_a_sweep_of_an_earlier_version_waits_for_the_others(api: ClusterApi, tmp_path: Path) -> None:
    began(api, tmp_path, parallel=3)
    api.objects.change("jobs", "grid", lambda one: one["spec"]["template"]["spec"]["volumes"].pop())
    controllers.terminated(api, pods_at(api, "Running")[0], 45)
    controllers.count_indexes(api, "grid")
    with pytest.raises(UsageError) as refused:
        resume_points(swept(), lambda _: None)
    assert str(refused.value) == (
        "grid-1 is not resumed: grid-2 and grid-3 have not ended\n"
        "    hint:     resume all when the others have ended with: launcher resume grid"
    )


def test_resuming_the_sweep_leaves_a_point_that_was_stopped_alone_and_names_its_command(api: ClusterApi, tmp_path: Path) -> None:
    stopped_alone(api, tmp_path)
    controllers.terminated(api, pods_at(api, "Running")[1], 45)
    controllers.terminated(api, pods_at(api, "Running")[2], 0)
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["stopped", "failed", "done"]
    found = find("grid", cluster=True, namespace=None)
    assert isinstance(found, Swept)
    told: list[str] = []
    assert resume_points(found, told.append) == ["grid-2"]
    assert told[-1] == "grid-1 stays stopped; resume it with: launcher resume grid-1"
    for pod in controllers.make_pods(api, "grid"):
        kubelet.starts(api, pod)
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()][:2] == ["stopped", "running"], "the pod of the new Job starts nothing"
    for pod in pods_at(api, "Running", "Pending").values():
        controllers.terminated(api, pod, 0)
    controllers.count_indexes(api, "grid")
    assert [state for _, state in states()] == ["stopped", "done", "done"]
    assert resume_points(found, told.append) == []
