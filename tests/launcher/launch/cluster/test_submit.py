"""A program submits a run: it tells a listener, and gets a value."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from launcher.backends.kubernetes.submit.preflight import NotReady
from launcher.errors import Warned
from launcher.launch.cluster.submission import Submission
from launcher.launch.cluster.submit import submit
from launcher.launch.rendered import Choice
from tests.cluster_api import ClusterApi, controllers
from tests.launcher.launch.grid import served


class Told:
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def say(self, line: str, /) -> None:
        self.heard.append(("say", line))

    def facts(self, those: Mapping[str, str], /) -> None:
        self.heard.append(("facts", dict(those)))

    def notices(self, those: Iterable[str], /) -> None:
        self.heard += [("notice", notice) for notice in those]


@pytest.fixture
def api(cluster_api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    return served(cluster_api, tmp_path, monkeypatch)


def test_a_program_gets_what_was_created_as_a_value_and_hears_the_facts_before(api: ClusterApi) -> None:
    told = Told()
    done = submit(Choice("demo", run_name="first"), listener=told)
    assert (done.run, done.experiment, done.namespace, done.context) == ("first", "demo", "default", "emulator")
    assert done.created == (("Service", "first"), ("ConfigMap", "first"), ("ConfigMap", "first-data"), ("Job", "first"))
    assert told.heard[0] == ("say", "preflight checks: namespace default, context emulator")
    assert ("facts", dict(done.facts)) in told.heard
    assert (done.json()["folder"], done.json()["warnings"]) == ("/dpo/runs/out/exp_1/Qwen3-0.6B/runs/first", [])
    assert done.where.status(done.on_cluster).state == "starting"


def test_it_submits_in_another_thread_than_the_main_one(api: ClusterApi) -> None:
    found: list[Submission] = []
    thread = threading.Thread(target=lambda: found.append(submit(Choice("demo"))))
    thread.start()
    thread.join()
    assert api.objects.names("jobs") == [found[0].job]


def test_what_preflight_finds_is_raised_or_with_anyway_a_warning(api: ClusterApi) -> None:
    api.objects.delete("persistentvolumeclaims", "dpo-runs")
    with pytest.raises(NotReady):
        submit(Choice("demo"))
    assert api.objects.names("jobs") == []
    done = submit(Choice("demo"), anyway=True)
    assert [type(notice) for notice in done.notices] == [Warned]
    assert done.json()["warnings"][0].startswith("claim dpo-runs: not found in namespace default")


def test_without_claims_checkpoint_to_gives_each_pod_disks_of_its_own_and_says_so(api: ClusterApi) -> None:
    for claim in ("dpo-runs", "dpo-cache"):
        api.objects.delete("persistentvolumeclaims", claim)
    done = submit(Choice("demo", ("checkpoint_to=s3://ckpt/team", "storage_config.endpoint_url=https://minio"), "first"))
    assert done.notices[:2] == (
        "claim dpo-runs not found, and checkpoint_to is set: each pod has an emptyDir for runs and cache",
        "volume runs is an emptyDir: checkpoints, metrics, logs and adapter are in s3://ckpt/team, and a restarted pod "
        "resumes from there",
    )
    job = api.objects.get("jobs", "first")
    pod = job["spec"]["template"]["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert {name: "sizeLimit" in volumes[name]["emptyDir"] for name in ("runs", "cache")} == {"runs": True, "cache": True}
    assert {"name": "DPO_OWN_RUNS", "value": "1"} in pod["containers"][0]["env"]
    assert done.on_cluster.copies == "s3://ckpt/team/exp_1/Qwen3-0.6B/first"
    assert done.on_cluster.store == "https://minio"


def test_a_claim_that_is_there_is_used_also_with_checkpoint_to_and_one_of_a_single_node_is_not_for_two(api: ClusterApi) -> None:
    done = submit(Choice("demo", ("checkpoint_to=s3://ckpt/team",), "first"))
    assert (done.notices, done.on_cluster.copies) == ((), None)
    for claim in ("dpo-runs", "dpo-cache"):
        controllers.claim(api, claim, "ReadWriteOnce")
    two = ("checkpoint_to=s3://ckpt/team", "launch.nodes=2", "launch.global_batch_size=8")
    done = submit(Choice("demo", two, "second"))
    why = "claim dpo-runs can only be mounted on one node, but the run has 2"
    assert done.notices[0] == f"{why}, and checkpoint_to is set: each pod has an emptyDir for runs and cache"
    with pytest.raises(NotReady, match="can only be mounted on one node"):
        submit(Choice("demo", two[1:], "third"))
