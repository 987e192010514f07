"""A pod that runs and prints nothing is reported: its image may be another one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.follow import silence
from launcher.backends.kubernetes.follow.archive import Archive
from launcher.backends.kubernetes.follow.evidence import explain
from launcher.backends.kubernetes.follow.following import Following
from tests.cluster_api import ClusterApi
from tests.cluster_api.played import Played


@pytest.fixture
def played(cluster_api: ClusterApi) -> Played:
    found = Played(cluster_api)
    found.start()
    return found


def test_a_follower_reports_it_and_again_when_it_lasts_twice_as_long(
    played: Played, cluster_api: ClusterApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT", 0.3)
    cluster, run = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)}), played.run
    found = Following(cluster, run, rank=0, begin="", archive=Archive(cluster, "default"), why=lambda: None)
    lines: list[str] = []
    for piece in found.pieces():
        lines += piece.splitlines()
        if len(lines) == 2:
            played.say("importing torch")
        if "importing torch" in lines:
            played.complete()
            break
    assert lines[0] == (
        "notice: first has run for 0 min and printed nothing; an image of launcher build prints within seconds: "
        "check launch.image (dpo:1), or see: launcher why first"
    )
    assert lines[1] == lines[0]


def test_why_names_the_image_of_a_pod_that_has_never_printed(played: Played, cluster_api: ClusterApi) -> None:
    cluster, (pod,) = Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)}), played.pods()
    assert explain(cluster, played.run).sentence == "first runs"
    began = (datetime.now(UTC) - timedelta(minutes=4)).strftime("%Y-%m-%dT%H:%M:%SZ")
    running = [{"name": "trainer", "image": "dpo:1", "state": {"running": {"startedAt": began}}}]
    cluster_api.objects.change("pods", pod, lambda one: one["status"].update(containerStatuses=running))
    found = explain(cluster, played.run)
    assert (found.cause, found.sentence) == ("silent", "first runs, but has printed nothing since it started 4 min ago")
    assert "check that launch.image (dpo:1) is made with launcher build" in found.suggestion
    played.step(1)
    assert explain(cluster, played.run).cause == "running"
