"""GPU-hours of runs on a cluster: from their pods, from the records on the claim, or from both."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.follow.archive import Archive
from launcher.backends.kubernetes.follow.run import RUNS_ROOT
from launcher.backends.kubernetes.follow.usage import gpu_hours_of, pod_seconds, records
from launcher.cli import launcher
from launcher.why import Container, Pod
from tests.cluster_api import ClusterApi, controllers
from tests.cluster_api.played import Played, archived, reader

TEN, NOON = datetime(2026, 11, 28, 10, tzinfo=UTC), datetime(2026, 11, 28, 12, tzinfo=UTC)


def pod(name: str, minutes: int | None, *, begin: datetime = TEN) -> Pod:
    """A pod whose container ran for ``minutes``; None: it still runs."""
    if minutes is None:
        return Pod(name, "Running", container=Container("running", started=begin.isoformat()))
    ended = (begin + timedelta(minutes=minutes)).isoformat()
    return Pod(name, "Failed", container=Container("terminated", ended=ended, started=begin.isoformat()))


def test_the_time_of_pods_is_that_of_their_containers_of_all_attempts() -> None:
    waits = Pod("waits", "Pending", container=Container("waiting", "ImagePullBackOff"))
    assert pod_seconds([pod("a", 30), pod("b", None), waits], NOON) == 30 * 60 + 2 * 3600
    assert pod_seconds([waits, Pod("new", "Pending")], NOON) is None


def test_what_is_missing_in_the_pods_or_in_the_record_is_taken_from_the_other(cluster_api: ClusterApi) -> None:
    run = Played(cluster_api, nodes=2, gpus=4).run
    record = {"gpus": 8, "attempts": [{"started": TEN.isoformat(), "ended": NOON.isoformat()}]}
    assert gpu_hours_of(run, record, [pod("a", 30)], None) == 16.0  # its first pods were deleted
    assert gpu_hours_of(run, {}, [pod("a", 30), pod("b", 30)], None) == 4.0  # nobody can read the claim
    assert gpu_hours_of(run, {}, [], None) is None


def edit(api: ClusterApi, pods: list[str], minutes: int) -> None:
    """The containers began so many minutes ago."""
    began = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def change(obj: dict[str, Any]) -> None:
        for status in obj["status"]["containerStatuses"]:
            next(iter(status["state"].values()))["startedAt"] = began

    for name in pods:
        api.objects.change("pods", name, change)


@pytest.fixture
def shelf(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster_api.kubeconfig))
    return reader(cluster_api, tmp_path / "claim")


def test_every_record_on_the_claim_is_read_at_once(cluster_api: ClusterApi, shelf: Path) -> None:
    archived(shelf, "one", run_dot_json='{"gpus": 1}')
    archived(shelf, "two", run_dot_json='{"gpus": 2}', checkpoint__run_dot_json="{}")
    archived(shelf, "half", run_dot_json='{"gpus":')
    cluster = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})
    assert {str(folder): found["gpus"] for folder, found in records(Archive(cluster, "default")).items()} == {
        "out/exp_1/model/runs/one": 1,
        "out/exp_1/model/runs/two": 2,
    }
    assert len(cluster_api.asked("GET", "/exec")) == 1


def test_ps_sums_gpu_hours_by_user_also_of_runs_whose_job_is_gone(
    cluster_api: ClusterApi, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, gone = Played(cluster_api, "here", nodes=2, gpus=4, user="dana@example.com"), {"user": "eve", "gpus": 8, "key": "old"}
    pods = here.start()
    here.complete()
    edit(cluster_api, pods, 30)
    attempts = [{"started": TEN.isoformat(), "ended": NOON.isoformat()}]
    archived(shelf, "gone", run_dot_json=json.dumps({**gone, "attempts": attempts, "outcome": {"state": "done", "exit_code": 0}}))
    archived(shelf, "cut", run_dot_json=json.dumps({**gone, "attempts": [{"started": TEN.isoformat(), "ended": None}]}))
    launcher.main(args=["ps", "--by", "user", "--cluster"], prog_name="launcher", standalone_mode=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["USER", "RUNS", "ACTIVE", "GPU-HOURS", "TOOK"],
        ["eve", "2", "0", "16.00", "(1", "unknown)", "2", "h", "0", "min"],
        ["dana@example.com", "1", "0", "4.00", "30", "min", "0", "s"],
        ["total", "3", "0", "20.00", "(1", "unknown)", "2", "h", "30", "min"],
    ]
    launcher.main(args=["status", "here"], prog_name="launcher", standalone_mode=False)
    assert "GPU-hours   4.00\nuser        dana@example.com\n" in capsys.readouterr().out


def test_without_a_reader_the_sums_are_of_the_pods_and_a_warning_says_what_is_not_counted(
    cluster_api: ClusterApi, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_api.objects.delete("pods", "reader-1", "default", propagation="Background", grace=0)
    played = Played(cluster_api, "here", gpus=1)
    edit(cluster_api, played.start(), 6)
    controllers.condition(cluster_api, "jobs", "here", "Suspended", "False")
    launcher.main(args=["ps", "--by", "experiment", "-n", "default", "--json"], prog_name="launcher", standalone_mode=False)
    told = capsys.readouterr()
    (row,) = json.loads(told.out)
    assert (row["name"], row["runs"], row["active"], round(row["gpu_hours"], 2)) == ("demo", 1, 1, 0.1)
    what = "pods that were deleted and runs whose Job is gone are not counted"
    assert told.err == f"warning: the records in namespace default cannot be read (no TensorBoard pod runs): {what}\n"


def test_ps_shows_the_health_of_all_runs_by_one_reading_of_their_records(
    cluster_api: ClusterApi, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "rule": "margin_flat",
        "action": "warn",
        "first_step": 3,
        "last_step": 9,
        "sentence": "flat",
        "suggestion": "raise it",
    }
    for name, record in (("fine", {"health": []}), ("flat", {"health": [found]}), ("young", None)):
        Played(cluster_api, name).start()
        if record is not None:
            archived(shelf, name, run_dot_json=json.dumps(record))
    archived(shelf, "other", run_dot_json=json.dumps({"health": [found]}))
    launcher.main(args=["ps", "--cluster"], prog_name="launcher", standalone_mode=False)
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {row[0]: row[head.index("HEALTH")] for row in rows} == {"fine": "ok", "flat": "margin_flat", "young": "-"}
    (asked,) = cluster_api.asked("GET", "/exec")
    assert "other" not in str(asked), "of the runs that are shown"


def test_records_of_many_runs_are_read_without_naming_them(cluster_api: ClusterApi, shelf: Path) -> None:
    folder = archived(shelf, "one", run_dot_json='{"gpus": 1}')
    cluster = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})
    place = RUNS_ROOT / "out/exp_1/model/runs"
    wanted = [place / folder.name, *(place / f"gone {number}" for number in range(30))]
    for some in (wanted[:2], wanted):
        assert list(records(Archive(cluster, "default"), some)) == [(place / "one").relative_to(RUNS_ROOT)]
    assert max(len(str(one)) for one in cluster_api.asked("GET", "/exec")) < 1000


def test_ps_lists_runs_whose_records_cannot_be_read(
    cluster_api: ClusterApi, shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Played(cluster_api, "fine").start()
    archived(shelf, "fine", run_dot_json='{"health": []}')

    told: list[str] = []

    def cell(name: str) -> str:
        launcher.main(args=["ps", "--cluster"], prog_name="launcher", standalone_mode=False)
        shown = capsys.readouterr()
        told[:] = shown.err.splitlines()
        head, *rows = [line.split() for line in shown.out.splitlines()]
        return next(row[head.index("HEALTH")] for row in rows if row[0] == name)

    def elsewhere(job: dict[str, Any]) -> None:
        job["metadata"]["annotations"]["dpo-launcher/folder"] = "/somewhere/else"

    Played(cluster_api, "stray")
    cluster_api.objects.change("jobs", "stray", elsewhere)  # not by submit
    assert (cell("fine"), cell("stray")) == ("ok", "-")
    assert told == []
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # the reader's image has no tar
    assert cell("fine") == "-"
    (line,) = told
    assert line.startswith("notice: no HEALTH in namespace default: ")
    assert "tar" in line, line


def test_ps_says_once_why_no_run_has_a_health_and_what_adds_it(
    cluster_api: ClusterApi, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_api.objects.delete("pods", "reader-1", "default", propagation="Background", grace=0)
    launcher.main(args=["ps", "--cluster"], prog_name="launcher", standalone_mode=False)
    assert capsys.readouterr().err == "", "without runs nothing is missing"
    for name in ("one", "two"):
        Played(cluster_api, name).start()
    launcher.main(args=["ps", "--cluster"], prog_name="launcher", standalone_mode=False)
    assert capsys.readouterr().err == (
        "notice: no HEALTH: no TensorBoard pod runs in namespace default; print the command that adds it with: "
        "launcher doctor --cluster -n default\n"
    )
