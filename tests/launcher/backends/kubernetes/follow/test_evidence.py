"""What is gathered of a run through the API, against the emulator, and what is made of it."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.kubernetes.api.cluster import Cluster
from launcher.backends.kubernetes.follow.evidence import explain, gather
from launcher.backends.kubernetes.follow.run import ClusterRun
from tests.cluster_api import controllers

LABELS = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "run", "dpo-launcher/run": "big"}
LIMITS = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "8"}


def submit(api: Any, *, nodes: int = 1, queue: str | None = None, suspend: bool = False) -> ClusterRun:
    labels = {**LABELS, "batch.kubernetes.io/job-name": "big"}
    container = {"name": "trainer", "image": "registry.example.com/team/dpo:1", "resources": {"limits": LIMITS}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "big",
            "labels": {**LABELS, **({"kueue.x-k8s.io/queue-name": queue} if queue else {})},
            "annotations": {"dpo-launcher/folder": "out/exp_1/m/runs/big", "dpo-launcher/nodes": str(nodes)},
        },
        "spec": {
            "completions": nodes,
            "parallelism": nodes,
            "suspend": suspend,
            "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
    return ClusterRun.of(api.objects.put(job))


def reader(api: Any, folder: Path) -> None:
    """The pod that reads the claim; its root is ``folder``."""
    labels = {"app.kubernetes.io/name": "dpo-launcher", "app.kubernetes.io/component": "reader"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reader", "labels": labels},
        "spec": {"containers": [{"name": "tensorboard", "image": "dpo-launcher:1"}]},
    }
    api.objects.put(pod)
    controllers.running(api, "reader")
    api.commands["default", "reader"] = folder


@pytest.fixture
def cluster(cluster_api: Any) -> Cluster:
    return Cluster.connect({"KUBECONFIG": str(cluster_api.kubeconfig)})


def test_a_pod_that_no_node_takes_is_told_with_what_it_asks_for(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big", node=None)
    controllers.unschedulable(cluster_api, pod, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    seen = gather(cluster, run)
    assert (seen.state, seen.gpus, seen.memory, seen.image) == ("starting", 8, "64Gi", "registry.example.com/team/dpo:1")
    found = explain(cluster, run)
    assert found.cause == "unschedulable"
    assert found.sentence == f"no node can take {pod}: 3 of 3 nodes have too little nvidia.com/gpu free"
    assert found.suggestion.startswith("wait, request fewer than 8 per node")


def test_the_labels_that_a_pods_node_must_have_are_told_where_no_node_has_them(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)

    def on_arm(job: Any) -> None:
        job["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/arch": "arm64"}

    cluster_api.objects.change("jobs", "big", on_arm)
    (pod,) = controllers.make_pods(cluster_api, "big", node=None)
    controllers.unschedulable(cluster_api, pod, "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.")
    assert explain(cluster, run).sentence == (
        f"no node can take {pod}: 3 of 3 nodes lack a label that it needs; its node must have kubernetes.io/arch=arm64"
    )


def test_events_of_a_pod_tell_why_its_image_is_not_pulled(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    controllers.waiting(cluster_api, pod, "ImagePullBackOff", 'Back-off pulling image "registry.example.com/team/dpo:1"')
    failed = 'Failed to pull image "registry.example.com/team/dpo:1": failed to resolve reference: dial tcp: lookup no such host'
    controllers.event(cluster_api, cluster_api.objects.get("pods", pod), "Failed", failed)
    assert explain(cluster, run).cause == "registry-host"


def initialise(api: Any, pod: str, phase: str, state: dict[str, Any], last: dict[str, Any] | None = None) -> None:
    """The init container ``copy`` of the pod is in ``state``, and was in ``last`` before; the trainer waits for it."""

    def edit(obj: dict[str, Any]) -> None:
        first = {"name": "copy", "state": state, "lastState": last or {}}
        waits = {"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}
        obj["status"] = {"phase": phase, "initContainerStatuses": [first], "containerStatuses": [waits]}

    api.objects.change("pods", pod, edit)


def test_an_init_container_that_keeps_the_run_from_starting_is_named(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    initialise(cluster_api, pod, "Pending", {"running": {}})
    assert explain(cluster, run).sentence == f"big is starting: {pod} is not running yet"
    words = (
        'Back-off pulling image "example.com/copy:1": ErrImagePull: failed to resolve reference: example.com/copy:1: not found'
    )
    initialise(cluster_api, pod, "Pending", {"waiting": {"reason": "ImagePullBackOff", "message": words}})
    found = explain(cluster, run)
    assert (found.cause, found.sentence) == (
        "image-not-found",
        "cannot pull example.com/copy:1: image not found in the registry",
    )
    crashed = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=copy"}}
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "fatal error: An error occurred (403): Forbidden\n"}}
    initialise(cluster_api, pod, "Pending", crashed, last)
    found = explain(cluster, run)
    assert (found.cause, found.sentence, found.suggestion) == (
        "init",
        f"{pod} cannot start: its init container copy ended with exit code 1: fatal error: An error occurred (403): Forbidden",
        f"see its log with: kubectl -n default logs {pod} -c copy --previous",
    )


def test_a_run_that_failed_in_an_init_container_says_so(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    ended = {"exitCode": 43, "reason": "Error", "startedAt": controllers.now(), "finishedAt": controllers.now()}
    initialise(cluster_api, pod, "Failed", {"terminated": ended})
    controllers.fail(cluster_api, "big")
    seen = gather(cluster, run)
    sentence = f"{pod} did not start: its init container copy ended with exit code 43"
    assert (seen.state, seen.exit_code, seen.sentence) == ("failed", 1, sentence)
    assert [one for one in seen.unseen if one.startswith("pod logs")] == [], (
        "a container that has not begun is not asked for its log"
    )
    found = explain(cluster, run)
    assert (found.cause, found.sentence) == ("init", sentence)
    look = f"see its log with: kubectl -n default logs {pod} -c copy"
    assert found.suggestion == f"{look}; resume it with: launcher resume big (from its newest checkpoint, if it has one)"


def test_without_the_right_to_see_events_it_goes_on_with_the_rest_and_says_so(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    controllers.waiting(cluster_api, pod, "ImagePullBackOff", 'Back-off pulling image "x"')
    cluster_api.deny("list", "events")
    seen = gather(cluster, run)
    assert len(seen.unseen) == 1
    assert seen.unseen[0].startswith("events: ")
    assert explain(cluster, run).cause == "image"
    assert len(cluster_api.asked("GET", "/events$")) == 2  # once a look: the first refusal is believed


def test_a_job_whose_pods_are_refused_is_explained_by_its_own_events(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    message = 'Error creating: pods "big-0-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    controllers.event(cluster_api, cluster_api.objects.get("jobs", "big"), "FailedCreate", message)
    assert explain(cluster, run).sentence == ("quota q is exceeded: pods=1 requested, pods=1 used, pods=1 allowed")


def kueue(api: Any, *conditions: dict[str, Any], checks: list[dict[str, Any]] | None = None, active: bool = True) -> ClusterRun:
    api.addons.add("Kueue")
    run = submit(api, queue="gpus", suspend=True)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "big", "uid": run.uid, "controller": True}
    status = {"conditions": list(conditions), "admissionChecks": checks or []}
    api.objects.put({"kind": "Workload", "metadata": {"name": "job-big-1", "ownerReferences": [owner]}, "status": status})
    words = ("Ready", "Can submit new workloads to clusterQueue")
    if not active:
        words = ("ClusterQueueIsInactive", "Can't submit new workloads to clusterQueue")
    state = {"type": "Active", "status": str(active), "reason": words[0], "message": words[1]}
    api.objects.put({"kind": "LocalQueue", "metadata": {"name": "gpus"}, "spec": {}, "status": {"conditions": [state]}})
    return run


def test_a_run_in_a_queue_is_explained_by_its_workload(cluster_api: Any, cluster: Cluster) -> None:
    words = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a100, 2 more needed"
    run = kueue(cluster_api, {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": words})
    found = explain(cluster, run)
    assert found.cause == "kueue-waiting"
    assert found.sentence == (
        "big waits in queue gpus: insufficient unused quota for nvidia.com/gpu in flavor a100, 2 more needed"
    )


def test_a_check_that_is_not_ready_is_named(cluster_api: Any, cluster: Cluster) -> None:
    reserved = {"type": "QuotaReserved", "status": "True", "reason": "QuotaReserved", "message": "Quota reserved"}
    checks = [{"name": "provisioning", "state": "Pending", "message": "waiting for nodes"}]
    found = explain(cluster, kueue(cluster_api, reserved, checks=checks))
    assert found.sentence == "big waits in queue gpus for an admission check: provisioning is Pending: waiting for nodes"


def test_a_queue_that_takes_nothing_in_is_told(cluster_api: Any, cluster: Cluster) -> None:
    assert explain(cluster, kueue(cluster_api, active=False)).cause == "kueue-inactive"


def test_a_queue_that_may_not_be_looked_at_leaves_what_is_known(cluster_api: Any, cluster: Cluster) -> None:
    run = kueue(cluster_api)
    cluster_api.deny("list", "workloads")
    cluster_api.deny("get", "localqueues")
    seen = gather(cluster, run)
    assert [what.partition(":")[0] for what in seen.unseen] == ["Kueue workloads", "Kueue localqueues"]
    assert explain(cluster, run).sentence == "big waits in queue gpus"


def test_a_pod_that_was_evicted_says_so_although_its_container_has_a_reason_of_its_own(
    cluster_api: Any, cluster: Cluster
) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    controllers.terminated(cluster_api, pod, 137)
    controllers.evicted(cluster_api, pod, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 17348Ki. ")
    controllers.fail(cluster_api, "big")
    assert explain(cluster, run).sentence == f"{pod} was evicted because its node node-1 ran out of main memory"


def test_the_last_word_of_the_entry_is_the_cause(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    said = {"code": 42, "sentence": "hyperparameters.beta: expected a number", "state": "failed"}
    controllers.terminated(cluster_api, pod, 42, message=json.dumps(said))
    words = "Container trainer for pod default/big-0 failed with exit code 42 matching FailJob rule at index 0"
    controllers.fail(cluster_api, "big", "PodFailurePolicy", words)
    assert explain(cluster, run).sentence == "the experiment is wrong: hyperparameters.beta: expected a number"


def test_where_the_entry_said_nothing_the_last_lines_of_its_pod_tell(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    cluster_api.log(pod).write("[rank 0] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n")
    controllers.terminated(cluster_api, pod, 1)
    controllers.fail(cluster_api, "big")
    assert explain(cluster, run).cause == "gpu-memory"


@pytest.mark.parametrize("zone", [0, 2, -5])
def test_a_run_that_trains_says_its_step_and_how_fresh_its_last_line_is(cluster_api: Any, cluster: Cluster, zone: int) -> None:
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    controllers.running(cluster_api, pod)
    line = {"type": "train", "step": 12, "total_steps": 40, "loss": 0.6}
    log = cluster_api.log(pod)
    log.zone = zone
    log.write(f"[rank 0] {json.dumps(line)}\n[rank 0] hello\n", at=time.time() - 3600)
    seen = gather(cluster, run)
    assert (seen.step, seen.total_steps, seen.since is not None and 3590 < seen.since < 3700) == (12, 40, True)
    assert explain(cluster, run).cause == "silent"


def test_how_fresh_a_line_is_does_not_depend_on_the_clock_of_this_machine(cluster_api: Any, cluster: Cluster) -> None:
    """This machine's clock is an hour ahead of the cluster's."""
    cluster_api.ahead = timedelta(hours=-1)
    run = submit(cluster_api)
    (pod,) = controllers.make_pods(cluster_api, "big")
    controllers.running(cluster_api, pod)
    line = {"type": "train", "step": 12, "total_steps": 40, "loss": 0.6}
    cluster_api.log(pod).write(f"[rank 0] {json.dumps(line)}\n", at=time.time() - 3600 - 30)
    seen = gather(cluster, run)
    assert seen.since is not None
    assert 20 < seen.since < 90
    assert explain(cluster, run).cause != "silent"


def test_a_run_whose_job_is_gone_is_explained_by_its_folder(cluster_api: Any, cluster: Cluster, tmp_path: Path) -> None:
    run = submit(cluster_api)
    folder = tmp_path / "dpo" / "runs" / run.folder
    (folder / "logs").mkdir(parents=True)
    outcome = {"state": "failed", "exit_code": 1, "sentence": "", "ended": "2026-11-24T12:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps({"run": "big", "outcome": outcome}))
    (folder / "logs" / "rank-0.log").write_text("RuntimeError: Found no NVIDIA driver on your system.\n")
    (folder / "logs" / "entry.log").write_text("torchrun ends\n")
    reader(cluster_api, tmp_path)
    cluster_api.objects.delete("jobs", "big")
    assert explain(cluster, run).cause == "gpu-driver"


def test_the_first_process_s_log_tells_it_where_no_rank_began(cluster_api: Any, cluster: Cluster, tmp_path: Path) -> None:
    run = submit(cluster_api)
    folder = tmp_path / "dpo" / "runs" / run.folder
    (folder / "logs").mkdir(parents=True)
    outcome = {"state": "failed", "exit_code": 1, "sentence": "", "ended": "2026-11-24T12:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps({"run": "big", "outcome": outcome}))
    (folder / "logs" / "entry.log").write_text("RuntimeError: Found no NVIDIA driver on your system.\n")
    reader(cluster_api, tmp_path)
    cluster_api.objects.delete("jobs", "big")
    assert explain(cluster, run).cause == "gpu-driver"


@pytest.mark.parametrize(
    "note", ['{"name": "big-0-x", "phase": "Failed", "conditions": [], "container": null, "colour": 1}', "[", "{}"]
)
def test_a_note_of_another_version_about_earlier_pods_is_left_out(note: str, cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    cluster_api.objects.put({"kind": "ConfigMap", "metadata": {"name": "big-ends"}, "data": {"big-0-x": note}})
    cluster_api.objects.delete("jobs", "big")
    assert gather(cluster, run).state == "lost"


def test_a_run_whose_job_is_gone_and_whom_nobody_can_read_is_lost(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    cluster_api.objects.delete("jobs", "big")
    seen = gather(cluster, run)
    assert seen.state == "lost"
    assert seen.unseen[0].startswith("the run's folder: ")
    assert explain(cluster, run).sentence == "big is lost: its Job was deleted"


def test_of_a_large_gang_only_those_pods_are_asked_about_that_are_not_well(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api, nodes=32)
    pods = controllers.make_pods(cluster_api, "big")
    for pod in pods[:-1]:
        controllers.running(cluster_api, pod)
    controllers.waiting(cluster_api, pods[-1], "CreateContainerConfigError", 'secret "dpo-secrets" not found')
    assert explain(cluster, run).cause == "secret"
    assert len(cluster_api.asked("GET", "/events$")) == 2


def test_of_a_jobset_the_jobs_that_it_makes_are_looked_at_too(cluster_api: Any, cluster: Cluster) -> None:
    cluster_api.addons.add("JobSet")
    container = {"name": "trainer", "image": "x:1", "resources": {"limits": LIMITS}}
    job = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}}
    made = cluster_api.objects.put(
        {
            "kind": "JobSet",
            "metadata": {"name": "big", "labels": LABELS, "annotations": {"dpo-launcher/nodes": "2"}},
            "spec": {"replicatedJobs": [{"name": "node", "replicas": 1, "template": job}]},
        }
    )
    child = cluster_api.objects.put({"kind": "Job", "metadata": {"name": "big-node-0"}, "spec": job["spec"]})
    words = 'Error creating: pods "big-node-0-0-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    controllers.event(cluster_api, child, "FailedCreate", words, source="job-controller")
    run = ClusterRun.of(made)
    assert gather(cluster, run).gpus == 8
    assert explain(cluster, run).cause == "pod-security"


def test_without_the_right_to_see_pods_the_job_and_its_events_are_left(cluster_api: Any, cluster: Cluster) -> None:
    run = submit(cluster_api)
    controllers.make_pods(cluster_api, "big")
    controllers.fail(cluster_api, "big", "DeadlineExceeded", "Job was active longer than specified deadline")
    cluster_api.deny("list", "pods")
    seen = gather(cluster, run)
    assert seen.unseen[0].startswith("pods: ")
    assert explain(cluster, run).cause == "deadline"


def test_an_event_of_an_earlier_run_with_the_same_name_tells_nothing_of_this_one(cluster_api: Any, cluster: Cluster) -> None:
    submit(cluster_api)
    words = 'Error creating: pods "big-0-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    controllers.event(cluster_api, cluster_api.objects.get("jobs", "big"), "FailedCreate", words, source="job-controller")
    cluster_api.objects.delete("jobs", "big")
    assert explain(cluster, submit(cluster_api)).cause == "starting"
