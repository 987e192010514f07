"""How a run on a cluster is, from its Job or JobSet and its pods, as an API server gives them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.backends import Status
from launcher.backends.kubernetes.follow.pods import Ending, ending, newest, pod_of, reason
from launcher.backends.kubernetes.follow.state import ended_at, gone, has_all, restarts, state


def job(
    *conditions: dict[str, str], annotations: dict[str, str] | None = None, labels: Any = None, **spec: Any
) -> dict[str, Any]:
    status = {
        "active": 2,
        "conditions": [{"status": "True", "lastTransitionTime": "2026-11-24T20:00:00Z", **c} for c in conditions],
    }
    return {"metadata": {"name": "j", "annotations": annotations or {}, "labels": labels or {}}, "spec": spec, "status": status}


def pod(index: int = 0, phase: str = "Running", created: str = "2026-11-24T20:00:00Z", **status: Any) -> Any:
    said = {"containerStatuses": [{"name": "trainer", "state": {"running": {}}}]} if phase == "Running" else {}
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    metadata = {"name": f"j-{index}-{created[-4:-1]}", "labels": labels, "creationTimestamp": created}
    return pod_of({"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": phase, **said, **status}}, "trainer")


def ended(code: int, index: int = 0, at: str = "2026-11-24T20:01:00Z", message: str = "", why: str = "Error", **more: Any) -> Any:
    terminated = {"exitCode": code, "reason": why, "finishedAt": at, "message": message}
    status = [{"name": "sidecar", "state": {"running": {}}}, {"name": "trainer", "state": {"terminated": terminated}}]
    return pod(index, "Succeeded" if code == 0 else "Failed", containerStatuses=status, **more)


def word(code: int, sentence: str, state: str = "failed") -> str:
    return f"some text before\n{json.dumps({'code': code, 'sentence': sentence, 'state': state})}"


PENDING = pod(1, "Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}])
DONE = {"type": "Complete", "reason": "CompletionsReached"}
FAILED = {"type": "Failed", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
POLICY = {
    "type": "Failed",
    "reason": "PodFailurePolicy",
    "message": "Container trainer for pod ns/j-0-x failed with exit code 42 matching FailJob rule at index 0",
}
STOP = {"dpo-launcher/stopped": "2026-11-24T20:00:00+00:00"}


@pytest.mark.parametrize(
    ("obj", "pods", "expected"),
    [
        (job(), [], Status("starting", None, "0 of 2 pods run")),
        (job(), [pod(), PENDING], Status("starting", None, "1 of 2 pods run")),
        (job(), [pod(), pod(1)], Status("running")),
        (
            job(),
            [pod(), pod(1, "Running", containerStatuses=[{"name": "trainer", "state": {"waiting": {}}}])],
            Status("starting", None, "1 of 2 pods run"),
        ),
        (
            job(),
            [ended(1, message=word(1, "a peer is gone")), pod(1)],
            Status("starting", None, "restarting after exit 1, a peer is gone"),
        ),
        (job(), [ended(0), ended(0, 1)], Status("running", None, "its pods are done; its Job is not marked as complete yet")),
        (job(), [pod(), ended(0, 1)], Status("running")),  # the first node still uploads
        ({**job(), "status": {"succeeded": 1}}, [pod()], Status("running")),  # a list without pods that have succeeded
        (
            {**job(), "status": {"uncountedTerminatedPods": {"succeeded": ["a", "b"]}}},
            [],
            Status("running", None, "its pods are done; its Job is not marked as complete yet"),
        ),
        (
            job({"type": "FailureTarget", "reason": "PodFailurePolicy"}),
            [ended(42, message=word(42, "no such model")), pod(1)],
            Status("stopping", None, "failed: exit 42, no such model; its other pods are ending"),
        ),
        (job(DONE), [ended(0, message=word(0, "trained", "done")), ended(0, 1)], Status("done", 0, "trained")),
        (job(DONE), [], Status("done", 0)),
        ({**job(), "status": {"conditions": [{"type": "Completed", "status": "True"}]}}, [], Status("done", 0)),
        (job(POLICY), [], Status("failed", 42, POLICY["message"])),
        (job(POLICY), [ended(42, message=word(42, "learning_rate is wrong"))], Status("failed", 42, "learning_rate is wrong")),
        (job(FAILED), [], Status("failed", 1, FAILED["message"])),
        (job({**FAILED, "status": "False"}), [pod(), pod(1)], Status("running")),
        (
            job({"type": "Failed", "reason": "DeadlineExceeded", "message": "…"}),
            [],
            Status("failed", 1, "its Job exceeded launch.kubernetes.active_deadline"),
        ),
        (job(annotations=STOP, suspend=True), [pod(), pod(1)], Status("stopping", None, "writes a checkpoint")),
        (job(annotations=STOP, suspend=True), [PENDING], Status("stopping", None, "its pods are being deleted")),
        # Pods that were stopped before they had a container count as failures.
        (
            {**job(annotations=STOP), "status": {"conditions": [{**FAILED, "status": "True"}]}},
            [],
            Status("stopped", 143, "stopped on request"),
        ),
        (
            {**job(annotations={**STOP, "dpo-launcher/aborted": "x"}), "status": {"conditions": [{**FAILED, "status": "True"}]}},
            [ended(137)],
            Status("aborted", 130, "killed on request"),
        ),
        (job(POLICY, annotations=STOP), [ended(46, message=word(46, "loss is NaN"))], Status("failed", 46, "loss is NaN")),
        ({**job(annotations=STOP, suspend=True), "status": {}}, [], Status("stopped", 143, "stopped on request")),
        (
            {**job(annotations=STOP, suspend=True), "status": {}},
            [ended(143, message=word(143, "after step 5", "stopped"))],
            Status("stopped", 143, "after step 5"),
        ),
        (
            {**job(annotations=STOP, suspend=True), "status": {}},
            [ended(137, why="Error")],
            Status("failed", 137, "j-0-:00 on n1 was killed from outside (SIGKILL)"),
        ),
        (
            {**job(annotations=STOP, suspend=True), "status": {}},
            [ended(1, at="2026-11-24T19:59:00Z", message=word(1, "a peer is gone"))],  # of an earlier attempt
            Status("stopped", 143, "stopped on request"),
        ),
        (
            {**job(annotations={**STOP, "dpo-launcher/aborted": "x"}, suspend=True), "status": {}},
            [],
            Status("aborted", 130, "killed on request"),
        ),
        (
            {
                **job(
                    suspend=True,
                ),
                "status": {},
            },
            [],
            Status("starting", None, "its Job is suspended"),
        ),
        (
            {**job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "q"}), "status": {}},
            [],
            Status("starting", None, "waits for Kueue to admit it"),
        ),
    ],
)
def test_the_state_of_a_run(obj, pods, expected):
    assert state(obj, pods, 2) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (pod(), None),
        (ended(0), Ending(0, None, "done")),
        (ended(42, message=word(42, "no such model")), Ending(42, "no such model", "failed")),
        (ended(1, message="Traceback\nValueError: no"), Ending(1, "its container exited with 1", "failed")),
        (ended(1, message='[rank 0] {"type": "train", "step": 3}'), Ending(1, "its container exited with 1", "failed")),
        (ended(1, message='{"code": 3, "step": 3}'), Ending(1, "its container exited with 1", "failed")),
        (ended(1, message="RuntimeError: NCCL error"), Ending(1, "its container exited with 1", "failed", is_consequence=True)),
        (
            ended(128, why="StartError", message="failed to start\nexec: tini: not found"),
            Ending(128, "exec: tini: not found", "failed"),
        ),
        (
            ended(137, why="OOMKilled"),
            Ending(137, "killed: it exceeded its memory limit (launch.memory)", "failed"),
        ),
        (ended(128, why="StartError"), Ending(128, "its container exited with 128 (StartError)", "failed")),
        (ended(143, message=word(143, "stopped", "stopped")), Ending(143, "stopped", "stopped")),
        (
            pod(0, "Failed", reason="Evicted", message="The node was low on resource: memory."),
            Ending(137, "The node was low on resource: memory.", "failed"),
        ),
    ],
)
def test_how_a_pod_ended(seen, expected):
    assert ending(seen) == expected


def test_a_gang_ended_as_the_pod_did_that_failed_first():
    peer = ended(1, 0, "2026-11-24T20:01:05Z", word(1, "a peer is gone"))
    first = ended(45, 1, "2026-11-24T20:01:00Z", word(45, "out of memory"))
    assert gone([peer, first]) == Status("failed", 45, "out of memory")


def test_a_pod_that_lost_its_peer_never_says_how_a_gang_ended_even_where_it_ended_in_the_second_before():
    peer = ended(1, 0, "2026-11-24T20:00:59Z", word(1, "rank 1 is gone: no heartbeat for 60 s"))
    killed = ended(137, 1, "2026-11-24T20:01:00Z", message='[rank 1] {"type": "train", "step": 12}')
    assert gone([peer, killed]) == Status("failed", 137, "j-1-:00 on n1 was killed from outside (SIGKILL)")


def test_a_pod_of_an_earlier_attempt_does_not_say_how_the_last_one_ended():
    before = [ended(1, index, "2026-11-24T20:01:00Z", word(1, "a peer is gone")) for index in (0, 1)]
    last = ended(
        46, 0, "2026-11-24T20:05:00Z", word(46, "the loss is NaN"), created="2026-11-24T20:01:10Z"
    )  # its peer is deleted
    assert state(job(POLICY), [*before, last], 2) == Status("failed", 46, "the loss is NaN")


def test_of_pods_that_failed_in_the_same_second_the_one_that_is_final_counts():
    peer, first = ended(1, 0, message=word(1, "a peer is gone")), ended(42, 1, message=word(42, "the data are wrong"))
    assert gone([peer, first]) == Status("failed", 42, "the data are wrong")


def test_a_run_whose_job_is_gone_without_a_word_is_lost():
    assert gone([]) == Status("lost", 137, "its Job was deleted; how it ended is unknown")


def test_the_newest_pod_of_each_node_counts():
    old, new = ended(1, created="2026-11-24T20:00:00Z"), pod(created="2026-11-24T20:02:00Z")
    assert newest([new, pod(1), old]) == [new, pod(1)]


def test_the_reason_of_a_pod_is_its_containers_its_own_or_its_schedules():
    waiting = [{"name": "trainer", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
    pods = [pod(), PENDING, pod(0, "Pending", containerStatuses=waiting), pod(0, "Failed", reason="Evicted")]
    assert [reason(one) for one in pods] == ["", "Unschedulable", "ImagePullBackOff", "Evicted"]


@pytest.mark.parametrize(
    ("failed", "nodes", "over", "times"),
    [(0, 2, False, 0), (1, 2, False, 1), (2, 2, False, 1), (3, 2, False, 2), (4, 2, True, 1), (1, 1, True, 0)],
)
def test_restarts_of_a_gang_are_counted_from_the_pods_that_failed(failed, nodes, over, times):
    obj = job(*([FAILED] if over else []), completions=nodes)
    obj["status"]["failed"] = failed
    assert restarts(obj) == times


def test_a_pod_that_took_the_place_of_one_that_was_deleted_is_a_restart():
    obj = job(completions=2)
    obj["status"]["startTime"] = "2026-11-24T20:00:00Z"
    stopped = ended(143, created="2026-11-24T20:00:01Z")  # its peer was deleted, and nothing is left of it
    both = [stopped, pod(0, created="2026-11-24T20:01:00Z"), pod(1, created="2026-11-24T20:01:00Z")]
    assert (restarts(obj, both), has_all(obj, both)) == (1, False)
    assert (restarts(obj, both[:2]), has_all(obj, both[:2])) == (1, True)
    first = [pod(index, created="2026-11-24T20:00:02Z") for index in (0, 1)]
    assert (restarts(obj, first), has_all(obj, first)) == (0, True)


def test_a_jobset_counts_its_restarts_itself():
    assert restarts({"metadata": {}, "spec": {"replicatedJobs": []}, "status": {"restarts": 3}}) == 3


def test_the_end_of_a_run_is_when_its_job_was_over_or_asked_to_stop():
    assert ended_at(job()) is None
    assert ended_at(job(FAILED)) == "2026-11-24T20:00:00Z"
    assert ended_at(job(annotations=STOP)) == STOP["dpo-launcher/stopped"]
