"""`--kind trainjob` as a person types it, on an emulated cluster with Kubeflow Trainer: TrainJob, JobSet, Job, pods, and back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from launcher.cli import launcher
from launcher.errors import LauncherError
from tests.cluster_api import ClusterApi, controllers, schema, trainer
from tests.cluster_api.played import arrived, reader

RUNTIMES = Path(__file__).parents[3] / "k8s" / "trainjob"
EXPERIMENT = {
    "experiment_id": 1,
    "model_name": "Qwen/Qwen3-0.6B",
    "datasets_path": "data",
    "hyperparameters": {"model_output_dir": "out", "eval_strategy": "no", "per_device_train_batch_size": 1},
    "launch": {
        "image": "registry.example.com/x:1",
        "gpus": 0,
        "global_batch_size": 2,
        "nodes": 2,
        "kubernetes": {"kind": "trainjob"},
    },
}


# What Kueue adds when it admits a TrainJob: nodes of a flavor, which it may not choose again.
ADMITTED = {
    "manager": "kueue.x-k8s.io/manager",
    "trainingRuntimeSpec": {
        "template": {
            "spec": {
                "replicatedJobs": [
                    {"name": "node", "template": {"spec": {"template": {"spec": {"nodeSelector": {"pool": "spot"}}}}}}
                ]
            }
        }
    },
}


@pytest.fixture
def api(cluster_api: ClusterApi) -> ClusterApi:
    """A cluster with Trainer and JobSet, without the runtime."""
    controllers.ready(cluster_api)
    cluster_api.addons |= {"JobSet", "Trainer"}
    controllers.play(cluster_api)
    trainer.play(cluster_api)
    return cluster_api


@pytest.fixture
def typed(api: ClusterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhy?,Because.,No.\nHow?,So.,What?\n")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yml").write_text(yaml.safe_dump({"demo": EXPERIMENT}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/engine")

    def run(*args: str) -> int:
        code = launcher.main(args=list(args), prog_name="launcher", standalone_mode=False)
        return code if isinstance(code, int) else 0

    return run


def install(api: ClusterApi, name: str = "cluster-runtime") -> None:
    api.objects.put(yaml.safe_load((RUNTIMES / f"{name}.yaml").read_text()))


def pods(api: ClusterApi) -> list[Any]:
    return controllers.pods_of(api, "first")


def condition(api: ClusterApi, plural: str, name: str = "first") -> dict[str, str]:
    found = (api.objects.get(plural, name).get("status") or {}).get("conditions") or []
    return {one["type"]: one["status"] for one in found}


def refusal(typed: Callable[..., int], *args: str) -> str:
    with pytest.raises((LauncherError, click.ClickException)) as caught:
        typed(*args)
    return str(caught.value)


def test_a_run_is_submitted_followed_and_done(api: ClusterApi, typed: Any, capfd: pytest.CaptureFixture[str]) -> None:
    install(api)
    assert typed("submit", "demo", "--name", "first") == 0
    told = capfd.readouterr().out
    assert "cluster     TrainJob first in namespace default, context emulator" in told
    assert "created     TrainJob first" in told
    assert {name: api.objects.names(name) for name in ("trainjobs", "jobsets", "jobs")} == {
        "trainjobs": ["first"], "jobsets": ["first"], "jobs": ["first-node-0"],
    }  # fmt: skip
    assert [one["spec"]["containers"][0]["name"] for one in pods(api)] == ["node", "node"]
    first = pods(api)[0]["metadata"]["name"]
    for number, pod in enumerate(pods(api)):
        api.log(pod["metadata"]["name"], "node").write(f"[rank {number}] hello from {number}\n")
    assert typed("ps", "--cluster") == 0
    (row,) = [line.split() for line in capfd.readouterr().out.splitlines() if line.startswith("first")]
    assert row[:3] == ["first", "running", "2"]
    assert typed("status", "first", "--cluster") == 0
    assert "default/first (TrainJob)" in capfd.readouterr().out
    assert typed("why", "first", "--cluster", "--json") == 0
    assert json.loads(capfd.readouterr().out)["unseen"] == []
    for pod in pods(api):
        said = json.dumps({"code": 0, "sentence": "trained", "state": "done"})
        controllers.terminated(api, pod["metadata"]["name"], 0, message=said)
    controllers.complete(api, "first-node-0")
    assert typed("logs", "-f", "first", "--cluster") == 0
    assert capfd.readouterr().out.splitlines()[0] == "hello from 0"
    assert condition(api, "trainjobs") == {"Complete": "True"}
    assert typed("status", "first", "--cluster", "--json") == 0
    status = json.loads(capfd.readouterr().out)
    assert (status["state"], status["exit_code"], status["kind"]) == ("done", 0, "TrainJob")
    assert first in {one["name"] for one in status["pods"]}
    assert typed("rm", "first", "--cluster") == 0
    # Trainer gives a TrainJob the end of any JobSet of its name: one of the same name must not be made before that is gone.
    assert [one.body["propagationPolicy"] for one in api.asked("DELETE", "/trainjobs/first$")] == ["Foreground"]
    assert [api.objects.names(name) for name in ("trainjobs", "jobsets", "jobs", "pods")] == [[], [], [], []]
    assert [name for name in api.objects.names("configmaps") if name.startswith("first")] == []


def test_status_shows_what_trainer_reports_of_the_training(
    api: ClusterApi, typed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    install(api)
    assert typed("submit", "demo", "--name", "first") == 0
    told = {"progressPercentage": 42, "estimatedRemainingSeconds": 750, "lastUpdatedTime": "2026-11-28T10:00:00Z"}
    told["metrics"] = [{"name": "loss", "value": "0.61"}]
    capfd.readouterr()
    assert typed("status", "first", "--cluster") == 0
    assert "trainer  " not in capfd.readouterr().out
    api.objects.change("trainjobs", "first", lambda one: one.setdefault("status", {}).update(trainerStatus=told))
    assert typed("status", "first", "--cluster") == 0
    assert "trainer     42 %, 12 min 30 s left, loss 0.61 (at 2026-11-28T10:00:00Z)\n" in capfd.readouterr().out


def test_a_preempted_pod_restarts_the_run_as_its_jobset_does_and_why_tells(
    api: ClusterApi, typed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    install(api)
    assert typed("submit", "demo", "--name", "first") == 0
    before = pods(api)
    controllers.disrupt(api, before[0]["metadata"]["name"], "PreemptionByScheduler", "preempted by a pod of a higher priority")
    controllers.terminated(api, before[0]["metadata"]["name"], 143)
    controllers.terminated(api, before[1]["metadata"]["name"], 1, message="a peer ended")
    controllers.fail(api, "first-node-0", "BackoffLimitExceeded")
    after = pods(api)
    assert {one["metadata"]["uid"] for one in before}.isdisjoint(one["metadata"]["uid"] for one in after)
    assert api.objects.get("jobsets", "first")["status"]["restarts"] == 1
    capfd.readouterr()
    assert typed("status", "first", "--cluster", "--json") == 0
    status = json.loads(capfd.readouterr().out)
    assert (status["state"], status["restarts"]) == ("running", 1)


def test_a_wrong_experiment_ends_the_run_without_a_restart_and_resume_makes_the_trainjob_again(
    api: ClusterApi, typed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    install(api)
    assert typed("submit", "demo", "--name", "first") == 0
    uid = api.objects.get("trainjobs", "first")["metadata"]["uid"]
    for pod in pods(api):
        said = json.dumps({"code": 43, "sentence": "row 3 has no chosen answer", "state": "failed"})
        controllers.terminated(api, pod["metadata"]["name"], 43, message=said)
    controllers.fail(
        api, "first-node-0", "PodFailurePolicy", "Container node for pod default/first-node-0-0 failed with exit code 43"
    )
    assert condition(api, "trainjobs") == {"Failed": "True"}
    capfd.readouterr()
    assert typed("why", "first", "--cluster", "--json") == 0
    why = json.loads(capfd.readouterr().out)
    assert (why["state"], why["exit_code"], "row 3 has no chosen answer" in why["sentence"]) == ("failed", 43, True)
    api.objects.change("trainjobs", "first", lambda one: one["spec"]["runtimePatches"].append(ADMITTED))
    assert typed("resume", "first", "--cluster", "--detach") == 0
    made = api.objects.get("trainjobs", "first")
    assert made["metadata"]["uid"] != uid
    assert [one["manager"] for one in made["spec"]["runtimePatches"]] == ["dpo-launcher/run"]
    assert len(pods(api)) == 2
    (owner,) = api.objects.get("configmaps", "first")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("TrainJob", made["metadata"]["uid"])


def test_a_trainjob_that_was_deleted_is_made_again_from_the_folder_of_its_run(
    api: ClusterApi, typed: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install(api, "runtime")
    reader(api, tmp_path / "claim")
    controllers.condition(api, "pods", "reader-1", "Ready")
    assert typed("submit", "demo", "--name", "first") == 0
    arrived(api, tmp_path / "claim", "first", pod=pods(api)[0]["metadata"]["name"])
    before = api.objects.get("trainjobs", "first")
    api.objects.delete("trainjobs", "first")
    assert pods(api) == []
    capfd.readouterr()
    assert typed("resume", "first", "--cluster", "--detach") == 0
    assert "its TrainJob is gone; it is created again" in capfd.readouterr().out
    assert api.objects.get("trainjobs", "first")["spec"] == before["spec"]
    assert len(pods(api)) == 2


def test_a_trainjob_is_made_again_when_the_jobset_of_the_deleted_one_is_gone(api: ClusterApi, typed: Any, tmp_path: Path) -> None:
    """Trainer gives a TrainJob the end of any JobSet of its name."""
    install(api)
    reader(api, tmp_path / "claim")
    controllers.condition(api, "pods", "reader-1", "Ready")
    assert typed("submit", "demo", "--name", "first") == 0
    arrived(api, tmp_path / "claim", "first", pod=pods(api)[0]["metadata"]["name"])
    left = api.objects.get("jobsets", "first")
    api.objects.delete("trainjobs", "first")
    left["metadata"].pop("ownerReferences")
    api.objects.put(left)
    controllers.condition(
        api, "jobsets", "first", "Failed", "True", "FailedJobs", "jobset failed due to one or more job failures"
    )
    collector = threading.Timer(3, api.objects.delete, ("jobsets", "first"))
    collector.start()
    assert typed("resume", "first", "--cluster", "--detach") == 0
    collector.join()
    assert condition(api, "trainjobs") == {}
    assert len(pods(api)) == 2


def test_a_run_is_stopped_and_resumed_through_its_suspension(
    api: ClusterApi, typed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    install(api)
    assert typed("submit", "demo", "--name", "first") == 0
    assert typed("stop", "first", "--cluster") == 0
    assert [api.objects.get(kind, name)["spec"]["suspend"] for kind, name in (
        ("trainjobs", "first"), ("jobsets", "first"), ("jobs", "first-node-0"),
    )] == [True, True, True]  # fmt: skip
    assert pods(api) == []
    capfd.readouterr()
    assert typed("status", "first", "--cluster", "--json") == 0
    assert json.loads(capfd.readouterr().out)["state"] == "stopped"
    assert typed("resume", "first", "--cluster", "--detach") == 0
    assert len(pods(api)) == 2
    assert api.objects.get("trainjobs", "first")["spec"]["suspend"] is False


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            'TrainingRuntime specified in TrainJob is not found: TrainingRuntime.trainer.kubeflow.org "dpo-launcher" not found',
            "runtime",
        ),
        (
            'jobsets.jobset.x-k8s.io "first" is forbidden: exceeded quota: q, requested: count/jobsets.jobset.x-k8s.io=1, '
            "used: count/jobsets.jobset.x-k8s.io=1, limited: count/jobsets.jobset.x-k8s.io=1",
            "quota",
        ),
    ],
)
def test_why_tells_why_trainer_cannot_create_the_jobset(
    message: str, cause: str, api: ClusterApi, typed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    install(api)
    api.objects.listeners.clear()  # its controller creates nothing
    assert typed("submit", "demo", "--name", "first") == 0
    words = f"TrainJob resources reconciliation failed: {message}"
    controllers.event(api, api.objects.get("trainjobs", "first"), "TrainJobResourcesCreationFailed", words)
    capfd.readouterr()
    assert typed("why", "first", "--cluster", "--json") == 0
    assert json.loads(capfd.readouterr().out)["cause"] == cause


def test_the_runtime_of_the_namespace_is_taken_before_that_of_the_cluster(api: ClusterApi, typed: Any) -> None:
    install(api)
    install(api, "runtime")
    assert typed("submit", "demo", "--name", "first") == 0
    assert api.objects.get("trainjobs", "first")["spec"]["runtimeRef"]["kind"] == "TrainingRuntime"


def test_a_missing_runtime_is_named_with_the_command_that_creates_it(api: ClusterApi, typed: Any) -> None:
    assert refusal(typed, "submit", "demo", "--name", "first") == (
        "--kind trainjob: the runtime dpo-launcher is missing: neither namespace default nor the cluster has it\n"
        "    hint:     kubectl -n default apply -f k8s/trainjob/runtime.yaml; or once for the cluster: "
        "kubectl apply -f k8s/trainjob/cluster-runtime.yaml"
    )
    assert api.objects.names("trainjobs") == []


def test_a_trainer_that_is_too_old_absent_or_idle_is_refused_before_anything_is_created(
    api: ClusterApi, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(api)
    with monkeypatch.context() as patch:
        patch.delitem(schema._ADDONS["TrainJob"]["properties"], "runtimePatches")
        assert refusal(typed, "submit", "demo") == (
            "--kind trainjob: the TrainJob of this cluster has no spec.runtimePatches: its Kubeflow Trainer is older than 2.2\n"
            "    hint:     use --kind jobset, or ask the cluster's administrator to upgrade Trainer"
        )
    api.idle.add("Trainer")
    assert refusal(typed, "submit", "demo").startswith(
        "--kind trainjob: TrainJob's CRD is installed, but its controller is probably down: its webhook did not check a dry run"
    )
    api.idle.clear()
    api.silent.add("Trainer")
    assert "its controller is probably down" in refusal(typed, "submit", "demo")
    api.addons.remove("Trainer")
    assert refusal(typed, "submit", "demo").startswith("--kind trainjob: Kubeflow Trainer v2 is not installed in the cluster")
    assert api.objects.names("configmaps") == []
