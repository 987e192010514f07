"""The whole: which cause counts, and a run in which nothing is wrong."""

from launcher.why import Condition, Container, Pod, explain
from tests.launcher.why.played import event, failed, last_word, on_node, seen


def test_a_stop_and_an_end_are_told_as_such():
    stopped = explain(seen("stopped", exit_code=143, step=12))
    assert (stopped.cause, stopped.sentence) == ("stopped", "big was stopped on request after step 12")
    assert stopped.suggestion == "resume it with: launcher resume big (from its newest checkpoint, if it has one)"
    done = explain(seen("done", exit_code=0, step=40, total_steps=40))
    assert (done.sentence, done.suggestion) == (
        "big is done: step 40 of 40",
        "copy its adapter to this machine with: launcher download big",
    )
    here = explain(seen("done", exit_code=0, namespace=None)).suggestion
    assert here == "see what it learned with: launcher learned big"
    assert explain(seen("stopping")).cause == "stopping"


def test_a_run_that_fails_while_its_other_pods_end_was_not_asked_to_stop():
    fails = Condition("FailureTarget", True, "PodFailurePolicy", "Container trainer for pod ns/big-0-x7k2p failed")
    assert explain(seen("stopping", conditions=(fails,), pods=(failed(42),))).cause == "experiment"


def test_a_pod_that_was_drained_while_it_stopped_says_so():
    drained = Condition("DisruptionTarget", True, "EvictionByEvictionAPI", "Eviction API: evicting")
    assert explain(seen("stopped", exit_code=143, pods=(failed(143, conditions=(drained,)),))).cause == "drained"


def test_a_run_that_is_lost_says_what_is_known():
    assert explain(seen("lost", "host", exit_code=137, sentence="its process is gone without a word")).sentence == (
        "big is lost: its process is gone without a word"
    )
    assert explain(seen("lost")).sentence == "big is lost: its Job was deleted"


def test_a_container_that_the_kernel_killed_is_out_of_main_memory_as_a_pod_is():
    sentence = "the kernel killed it: the memory of launch.memory (64Gi) ran out"
    found = explain(seen("failed", "docker", exit_code=137, sentence=sentence, memory="64Gi"))
    pod = explain(seen("failed", pods=(failed(137, reason="OOMKilled"),), memory="64Gi"))
    assert found.cause == pod.cause == "memory"
    assert found.suggestion == pod.suggestion
    assert found.sentence == "big was killed: it exceeded its memory limit of 64Gi (launch.memory)"


def test_a_run_in_which_nothing_is_wrong_says_its_step_and_how_fresh_its_last_word_is():
    running = Pod("big-0-x7k2p", "Running", 0, host="gpu-1", container=Container("running"))
    found = explain(seen("running", pods=(running,), step=12, total_steps=40, since=3.4))
    assert (found.cause, found.sentence) == ("running", "big runs: step 12 of 40, last output 3 s ago")
    assert explain(seen("running", "host")).sentence == "big runs"


def test_a_run_that_has_been_silent_for_long_is_no_run_in_which_nothing_is_wrong():
    found = explain(seen("running", step=12, since=4000))
    assert (found.cause, found.sentence) == ("silent", "big runs: step 12, but has printed nothing for 1 h 6 min")


def test_a_run_that_was_restarted_says_why():
    old = failed(1, last_word(1, "rank 1 is gone: its process 71 was killed or has crashed"), created="2026-11-24T11:00:00Z")
    new = Pod("big-0-zzzzz", "Running", 0, host="gpu-1", container=Container("running"), created="2026-11-24T12:00:01Z")
    peer = failed(1, last_word(1, "rank 1 is gone"), name="big-1-y", index=1, created="2026-11-24T11:00:02Z")
    assert "restarted once" in explain(seen("running", pods=(old, peer, new))).sentence
    assert explain(seen("running", pods=(old, new), step=3, since=1)).sentence == (
        "big runs: step 3, last output 1 s ago; restarted once: rank 1 died first: its process 71 was killed or has crashed"
    )
    assert explain(seen("starting", pods=(old, Pod("big-0-zzzzz", "Pending", 0, created="2026-11-24T12:00:01Z")))).cause == (
        "restarting"
    )


def test_a_start_in_which_nothing_is_wrong_says_how_far_it_is():
    assert explain(seen()).sentence == "big is starting: it has no pods yet"
    pulling = event("Pulling", 'Pulling image "registry.example.com/team/dpo:1"')
    assert explain(seen(pods=(on_node(),), events=(pulling,))).sentence == ("big is starting: its image is being pulled on gpu-1")
    pulled = event("Pulled", 'Successfully pulled image "registry.example.com/team/dpo:1" in 41s')
    assert explain(seen(pods=(on_node(),), events=(pulling, pulled))).sentence == (
        "big is starting: big-0-x7k2p is not running yet"
    )
    assert explain(seen(is_suspended=True)).cause == "suspended"


def test_of_two_nodes_the_one_that_waits_is_told():
    runs = Pod("big-0-aaaaa", "Running", 0, host="gpu-1", container=Container("running"))
    late = Pod("big-1-bbbbb", "Pending", 1, conditions=(
        Condition("PodScheduled", False, "Unschedulable", "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),))  # fmt: skip
    assert explain(seen(nodes=2, pods=(runs, late))).sentence == (
        "no node can take big-1-bbbbb: 2 of 2 nodes have too little nvidia.com/gpu free"
    )
    refused = event("FailedCreate", 'Error creating: pods "big-1-" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, '
                    "limited: pods=1", "big", "Job")  # fmt: skip
    assert explain(seen(nodes=2, pods=(runs,), events=(refused,))).cause == "quota"


def test_a_pod_on_a_node_that_does_not_answer_is_told_while_its_job_still_counts_it_as_running():
    gone = Condition("DisruptionTarget", True, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
    pod = Pod("big-0-x7k2p", "Running", 0, "gpu-1", conditions=(gone,), container=Container("running"), is_deleted=True)
    found = explain(seen("running", pods=(pod,), step=3, since=900))
    assert (found.cause, found.sentence) == (
        "node-lost",
        "big-0-x7k2p is on node gpu-1, which does not answer: it is not replaced until it is deleted",
    )
    assert "kubectl -n dpo delete pod big-0-x7k2p --force --grace-period=0" in found.suggestion


def test_a_pod_that_is_being_evicted_says_so_before_it_is_gone():
    drained = Condition("DisruptionTarget", True, "EvictionByEvictionAPI", "Eviction API: evicting")
    pod = Pod("big-0-x7k2p", "Running", 0, "gpu-1", conditions=(drained,), container=Container("running"), is_deleted=True)
    assert explain(seen("running", pods=(pod,))).cause == "drained"


def test_a_jobset_whose_jobs_are_refused_says_who_refuses_them():
    refused = event("JobCreationFailed", 'jobs.batch "big-node-0" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: '
                    "count/jobs.batch=10, limited: count/jobs.batch=10", "big", "JobSet")  # fmt: skip
    assert explain(seen(events=(refused,))).sentence == (
        "quota q is exceeded: count/jobs.batch=1 requested, count/jobs.batch=10 used, count/jobs.batch=10 allowed"
    )


def test_a_run_that_was_killed_on_request_is_not_taken_for_one_that_ran_out_of_memory():
    found = explain(seen("aborted", exit_code=130, sentence="killed on request", pods=(failed(137),)))
    assert (found.cause, found.sentence) == ("aborted", "killed on request")
