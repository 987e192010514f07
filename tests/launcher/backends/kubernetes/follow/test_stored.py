"""How a run ended whose Job is gone, by what its nodes left in its folder."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from launcher.backends import Status
from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.follow.archive import Archive, run_of
from launcher.backends.kubernetes.follow.stored import ended_before, ended_by_folder, stored_runs
from tests.cluster_api import ClusterApi
from tests.cluster_api.played import FOLDER, reader


@pytest.fixture
def archive(cluster_api: ClusterApi, tmp_path: Path) -> Archive:
    reader(cluster_api, tmp_path)
    return Archive(Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)}), "default")


def attempt(node: int, number: int = 1, **more: Any) -> dict[str, Any]:
    own = {"pod": f"r-{node}-abcde", "host": f"gpu-{node}"}
    return {"number": number, "started": "2026-11-01T10:00:00+00:00", "ended": None, "exit_code": None, **own, **more}


FELL = {
    "exit_code": 1,
    "state": "failed",
    "sentence": "rank 1 is gone: no heartbeat for 60 s",
    "is_consequence": True,
    "ended": "2026-11-01T10:01:00+00:00",
}


def left(tmp_path: Path, first: dict[str, Any], *others: dict[str, Any], outcome: dict[str, Any] | None = None) -> Any:
    """The folder of a run, with the last attempts of its nodes."""
    folder = tmp_path / "dpo" / "runs" / FOLDER / "r"
    folder.mkdir(parents=True)
    record = {"run": "r", "key": "demo", "experiment": {"launch": {"nodes": 1 + len(others)}}, "attempts": [first]}
    record["outcome"] = outcome or {"state": "running"}
    (folder / "run.json").write_text(json.dumps(record))
    for node, other in enumerate(others, start=1):
        (folder / f"node-{node}.json").write_text(json.dumps({"attempts": [other]}))
    return run_of("default", PurePosixPath(FOLDER) / "r", record)


def test_of_two_nodes_the_one_that_was_killed_without_a_word_is_named_whichever_it_was(archive: Archive, tmp_path: Path) -> None:
    run = left(tmp_path, attempt(0), attempt(1, **FELL))
    sentence = "r-0-abcde on gpu-0 was killed without a message (SIGKILL), or lost with its node"
    assert ended_by_folder(archive, run) == Status("failed", 137, sentence)


def test_the_first_node_that_only_fell_does_not_say_how_the_run_ended(archive: Archive, tmp_path: Path) -> None:
    outcome = {"state": "failed", "exit_code": 1, "sentence": FELL["sentence"], "ended": FELL["ended"]}
    run = left(tmp_path, attempt(0, **FELL), attempt(1), outcome=outcome)
    (tmp_path / "dpo" / "runs" / FOLDER / "r" / "attempt-1").mkdir()
    note = {"used": 7 * 2**30, "limit": 8 * 2**30}
    (tmp_path / "dpo" / "runs" / FOLDER / "r" / "attempt-1" / "memory-1.json").write_text(json.dumps(note))
    assert ended_by_folder(archive, run) == Status(
        "failed",
        137,
        "r-1-abcde on gpu-1 was killed without a message when it used 7.0 of 8.0 GiB: "
        "it probably exceeded its memory limit (launch.memory)",
    )


def test_what_the_record_tells_counts(archive: Archive, tmp_path: Path) -> None:
    outcome = {"state": "failed", "exit_code": 46, "sentence": "the loss is NaN", "ended": "2026-11-01T10:01:00+00:00"}
    run = left(tmp_path, attempt(0, exit_code=46), outcome=outcome)
    assert ended_by_folder(archive, run) == Status("failed", 46, "the loss is NaN")
    (found,) = stored_runs(archive)
    assert (found.run.name, found.run.key, found.status.exit_code, found.ended) == ("r", "demo", 46, outcome["ended"])


def test_a_run_that_never_had_an_attempt_is_lost(archive: Archive, tmp_path: Path) -> None:
    run = left(tmp_path, {"number": 1, "exit_code": None})
    assert ended_by_folder(archive, run).state == "lost"


def test_how_the_attempt_before_ended_is_told_unless_a_person_resumed_the_run() -> None:
    stopped = attempt(0, exit_code=143, sentence="stopped on request", ended="2026-11-01T10:01:00+00:00")
    record = {"attempts": [stopped, attempt(0, number=2)]}
    told = "r-0-abcde on gpu-0 was stopped by the cluster: drained, preempted, or deleted by a person"
    assert ended_before(record, None) == told
    assert ended_before(record, "2026-11-01T10:00:30+00:00") == told
    assert ended_before(record, "2026-11-01T10:02:00+00:00") is None
    failed = {"attempts": [{**stopped, "exit_code": 1, "sentence": "ValueError: no"}]}
    assert ended_before(failed, None) == "r-0-abcde on gpu-0: ValueError: no"
    assert ended_before({"attempts": [{"number": 1, "exit_code": 1}]}, None) is None
