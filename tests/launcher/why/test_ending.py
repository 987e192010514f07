"""What kubelets, controllers, torch and NCCL really say of runs that end."""

from dataclasses import replace

import pytest

from launcher.why import Condition, Container, Pod, explain
from tests.launcher.why.played import failed, last_word, seen

TAKEN = [
    (
        failed(137, reason="OOMKilled"),
        "memory",
        "big-0-x7k2p was killed: it exceeded its memory limit of 64Gi (launch.memory)",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "Evicted",
            "The node was low on resource: ephemeral-storage. Threshold quantity: 2727346284, available: 432908Ki. Container trainer "
            "was using 20Ki, request is 0, has larger consumption of ephemeral-storage. "),
        "evicted",
        "big-0-x7k2p was evicted because its node gpu-1 ran out of disk",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "Evicted", "The node was low on resource: memory. Threshold quantity: 100Mi, "
            "available: 17348Ki. Container trainer was using 188Ki, request is 0, has larger consumption of memory. "),
        "evicted",
        "big-0-x7k2p was evicted because its node gpu-1 ran out of main memory",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "Evicted", 'Usage of EmptyDir volume "shm" exceeds the limit "8Gi". '),
        "shared-memory",
        "big-0-x7k2p was evicted: /dev/shm held more than 8Gi",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "Evicted", 'Usage of EmptyDir volume "tmp" exceeds the limit "4Gi". '),
        "evicted",
        "big-0-x7k2p was evicted: its folder tmp held more than 4Gi",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", conditions=(Condition(
            "DisruptionTarget", True, "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"),)),
        "preempted",
        "big-0-x7k2p was preempted on gpu-1 by a pod of higher priority",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", conditions=(Condition(
            "DisruptionTarget", True, "EvictionByEvictionAPI", "Eviction API: evicting"),)),
        "drained",
        "big-0-x7k2p was evicted on gpu-1 on request: its node was drained, or removed by an autoscaler",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", conditions=(Condition(
            "DisruptionTarget", True, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),)),
        "node-lost",
        "big-0-x7k2p was lost with its node gpu-1, which does not answer or was removed",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", conditions=(Condition(
            "DisruptionTarget", True, "DeletionByPodGC", "PodGC: node no longer exists"),)),
        "node-lost",
        "big-0-x7k2p was lost with its node gpu-1, which does not answer or was removed",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "Terminated", "Pod was terminated in response to imminent node shutdown."),
        "node-shutdown",
        "big-0-x7k2p was ended because its node gpu-1 was shut down",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "UnexpectedAdmissionError", "Pod was rejected: Allocate failed due to rpc error: code "
            "= Unknown desc = no such device, which is unexpected"),
        "gpu-driver",
        "node gpu-1 cannot give big-0-x7k2p its devices: Pod was rejected: Allocate failed due to rpc error: "
        "code = Unknown desc = no such device, which is unexpected",
    ),
    (
        Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "OutOfnvidia.com/gpu", "Pod was rejected: Node didn't have enough resource: "
            "nvidia.com/gpu, requested: 8, used: 8, capacity: 8"),
        "node-full",
        "node gpu-1 had no nvidia.com/gpu left for big-0-x7k2p: Pod was rejected: Node didn't have enough resource: "
        "nvidia.com/gpu, requested: 8, used: 8, capacity: 8",
    ),
    (
        failed(128, 'failed to create containerd task: failed to create shim task: OCI runtime create failed: exec: "/usr/bin/tini": '
               "exec format error: unknown", "StartError"),
        "architecture",
        "big-0-x7k2p cannot start: the image is built for another CPU architecture than the node's",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "cause", "sentence"), TAKEN)
def test_a_pod_that_did_not_end_by_itself_says_what_took_it(pod, cause, sentence):
    found = explain(seen("failed", pods=(pod,), memory="64Gi"))
    assert (found.cause, found.sentence) == (cause, sentence)


ENDED = [
    (42, "configs/mine.yml:3:18: hyperparameters.learning_rate is not a number (in exp_1)\n    | learning_rate: fast", "experiment",
     "the experiment is wrong: configs/mine.yml:3:18: hyperparameters.learning_rate is not a number (in exp_1)"),
    (43, "data/training_data.csv:7: no column good_answer", "data", "the data are wrong: data/training_data.csv:7: no column good_answer"),
    (44, "HF_TOKEN is refused by the hub", "credential", "a credential is missing or refused: HF_TOKEN is refused by the hub"),
    (45, "out of memory: lower max_seq_length or use gradient checkpointing (CUDA out of memory. Tried to allocate 2.00 GiB)",
     "gpu-memory", "out of memory on the device: CUDA out of memory. Tried to allocate 2.00 GiB"),
    (45, "out of memory at step 12: lower max_seq_length, or see `launcher plan` (CUDA out of memory)",
     "gpu-memory", "out of memory on the device at step 12: lower max_seq_length, or see `launcher plan` (CUDA out of memory)"),
    (46, "step 12: the loss is nan", "health", "a health rule stopped it: step 12: the loss is nan"),
    (47, "s3://models/dpo: the bucket does not answer", "upload",
     "trained, but not uploaded: s3://models/dpo: the bucket does not answer"),
    (48, "the hub (https://huggingface.co) cannot be reached through proxy http://127.0.0.1:9: connection refused", "network",
     "the hub (https://huggingface.co) cannot be reached through proxy http://127.0.0.1:9: connection refused"),
    (48, "bucket models at http://s3: ListObjectsV2 failed: SlowDown (HTTP 503)", "network",
     "a server cannot be reached: bucket models at http://s3: ListObjectsV2 failed: SlowDown (HTTP 503)"),
    (2, "NODE_RANK=4: there are 2 nodes", "usage", "the command line is wrong: NODE_RANK=4: there are 2 nodes"),
    (1, "the disk is full: /dpo/runs/x; make room, then resume", "disk",
     "the disk is full: /dpo/runs/x; make room, then resume"),
    (1, "rank 1 is gone: its process 71 was killed or has crashed", "peer",
     "rank 1 died first: its process 71 was killed or has crashed"),
    (1, "nothing has moved for 1800 s; behind is rank 3 (computing step 12): its stack is in its log", "hung",
     "rank 3 hung (computing step 12); the others waited until ddp_timeout"),
    (1, "ValueError: something else", "failed", "big ended with exit code 1: ValueError: something else"),
    (135, "a bus error: shared memory (/dev/shm) ran out; raise launch.shm_size", "shared-memory",
     "shared memory (/dev/shm) ran out: a bus error: shared memory (/dev/shm) ran out; raise launch.shm_size"),
    (137, "a rank was killed (SIGKILL): often the machine's memory ran out; `dmesg` says so", "killed",
     "a rank was killed (SIGKILL): often the machine's memory ran out; `dmesg` says so"),
    (137, "a rank was killed (SIGKILL) by a user or the system; memory had not run out (largest process: 3.0 of 4.0 GiB)",
     "killed", "a rank was killed (SIGKILL) by a user or the system; memory had not run out "
     "(largest process: 3.0 of 4.0 GiB)"),
    (137, "the kernel killed a rank: main memory ran out (largest process: 3.9 of 4.0 GiB)", "memory",
     "main memory ran out: the kernel killed a rank: main memory ran out (largest process: 3.9 of 4.0 GiB)"),
    (1, "the disk or its file system failed: /dpo/runs/x: input/output error", "disk",
     "the disk or its file system failed: /dpo/runs/x: input/output error"),
    (130, "killed on request", "aborted", "killed on request"),
]  # fmt: skip


@pytest.mark.parametrize("backend", ["host", "docker", "kubernetes"])
@pytest.mark.parametrize(("code", "sentence", "cause", "told"), ENDED)
def test_how_a_run_ended_is_told_in_the_same_words_on_every_backend(backend, code, sentence, cause, told):
    if backend == "kubernetes":
        evidence = seen("failed", pods=(failed(code, last_word(code, sentence)),))
    else:
        evidence = seen("aborted" if code == 130 else "failed", backend, exit_code=code, sentence=sentence)
    found = explain(evidence)
    assert (found.cause, found.sentence) == (cause, told)


LINES = [
    ("gpu-memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB"),
    ("shared-memory", "RuntimeError: DataLoader worker (pid 83) is killed by signal: Bus error. It is possible that dataloader's "
                      "workers are out of shared memory. Please try to raise your shared memory limit."),
    ("shared-memory", "RuntimeError: unable to write to file </torch_81_1872340_0>: unable to allocate shared memory(shm)"),
    ("gpu-driver", "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a "
                   "driver from http://www.nvidia.com/Download/index.aspx"),
    ("gpu-driver", "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)."),
    ("gpu-error", "RuntimeError: CUDA error: uncorrectable ECC error encountered"),
    ("disk", "OSError: [Errno 28] No space left on device: '/dpo/runs/out'"),
    ("permission", "PermissionError: [Errno 13] Permission denied: '/dpo/runs/data'"),
    ("architecture", "exec /usr/bin/tini: exec format error"),
    ("credential", "huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url"),
    ("network", "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded"),
    ("hung", "[rank3]:[E1218 20:27:21.426415540 ProcessGroupNCCL.cpp:629] [Rank 3] Watchdog caught collective operation timeout: "
             "WorkNCCL(SeqNum=1, OpType=BROADCAST, NumelIn=131072000, NumelOut=131072000, Timeout(ms)=600000) ran for 600081 "
             "milliseconds before timing out."),
    ("hung", "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv "
             "operation to complete"),
    ("peer", "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.244.1.7]:29500"),
    ("rendezvous", "torch.distributed.DistStoreError: wait timeout after 1800000ms, keys: /default_pg/0//cuda//timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("cause", "line"), LINES)
def test_where_nobody_left_a_word_the_last_lines_tell(cause, line):
    on_a_host = seen("failed", "host", exit_code=1, lines=("step 3/40", line, "[rank 0] torchrun ends"))
    in_a_pod = seen("failed", pods=(failed(1, f"step 3/40\n{line}\n"),))
    assert explain(on_a_host).cause == explain(in_a_pod).cause == cause


def test_an_nccl_timeout_names_the_rank_that_complained_first_and_how_to_see_it():
    line = "[Rank {}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, Timeout(ms)=600000) ran"
    found = explain(seen("failed", "docker", exit_code=1, lines=(line.format(3), line.format(0))))
    assert found.sentence == "NCCL timeout: rank 3 reported it first, in ALLREDUCE"
    assert found.suggestion.startswith("see what it was doing with: launcher logs big --rank 3")


def test_of_a_gang_the_pod_counts_that_says_why_and_not_the_ones_that_fell_with_it():
    fell = failed(1, last_word(1, "rank 9 has ended with exit code 45"), name="big-0-aaaaa", index=0)
    cause = failed(45, last_word(45, "out of memory"), name="big-1-bbbbb", index=1)
    found = explain(seen("failed", nodes=2, pods=(fell, cause)))
    assert (found.cause, found.sentence) == ("gpu-memory", "out of memory on the device")


def test_a_job_without_pods_tells_what_its_conditions_and_the_archive_say():
    policy = Condition("Failed", True, "PodFailurePolicy", "Container trainer for pod dpo/big-0-8ckj8 failed with exit code 42 matching "
                       "FailJob rule at index 0")  # fmt: skip
    assert explain(seen("failed", exit_code=42, sentence="no such key", conditions=(policy,))).sentence == (
        "the experiment is wrong: no such key"
    )
    deadline = Condition("Failed", True, "DeadlineExceeded", "Job was active longer than specified deadline")
    assert (
        explain(seen("failed", conditions=(deadline,))).sentence
        == "big exceeded its deadline (launch.kubernetes.active_deadline)"
    )
    backoff = Condition("Failed", True, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert explain(seen("failed", conditions=(backoff,))).sentence == (
        "big failed more often than launch.max_restarts allows, and its pods are deleted"
    )
    assert (
        explain(seen("failed", conditions=(backoff,), lines=("torch.OutOfMemoryError: CUDA out of memory.",))).cause
        == "gpu-memory"
    )
    jobset = Condition("Failed", True, "ReachedMaxRestarts", "jobset failed due to reaching max number of restarts")
    assert explain(seen("failed", conditions=(jobset,))).cause == "restarts"


def test_an_eviction_in_words_that_nobody_has_met_is_one_all_the_same():
    words = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "
    pod = Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "Evicted", words, container=Container("terminated", "Error", "", 137))
    assert explain(seen("failed", pods=(pod,))).sentence == f"big-0-x7k2p was evicted: {words.strip()}"
    words = 'Container trainer exceeded its local ephemeral storage limit "7Gi". '
    for full in (pod, replace(pod, message=words)):
        assert "the limit of ephemeral-storage in launch.kubernetes.pod" in explain(seen("failed", pods=(full,))).suggestion
    other = Pod(
        "big-0-x7k2p", "Failed", 0, "gpu-1", "Evicted", "something new", container=Container("terminated", "Error", "", 137)
    )
    assert explain(seen("failed", pods=(other,))).sentence == "big-0-x7k2p was evicted on gpu-1: something new"


def test_of_several_attempts_the_last_one_counts_in_whatever_order_they_are_listed():
    first = failed(1, last_word(1, "rank 0 is gone: its process 7 was killed"), name="big-0-a", created="2026-11-24T11:00:00Z")
    last = failed(46, last_word(46, "step 12: the loss is nan"), name="big-0-b", created="2026-11-24T12:00:00Z")
    assert explain(seen("failed", pods=(last, first))).cause == explain(seen("failed", pods=(first, last))).cause == "health"


METRIC = '[rank 0] {"type": "train", "step": 12, "total_steps": 40, "loss": 0.61, "code": 3}'
BAR = "[rank 1]  30%|###       | 12/40 [00:31<01:12,  2.6s/it]"
FRAME = '[rank 1]   File "/opt/x.py", line 3, in step'


def test_after_a_sigkill_of_one_of_two_nodes_the_pod_that_was_killed_is_named_and_not_its_peer():
    killed = failed(137, f"{METRIC}\n", name="big-1-bbbbb", index=1, host="gpu-2")
    fell = failed(1, last_word(1, "rank 1 is gone: no heartbeat for 60 s"), name="big-0-aaaaa", index=0, host="gpu-1")
    found = explain(seen("failed", nodes=2, pods=(fell, killed), lines=("Connection reset by peer",), lines_of="big-0-aaaaa"))
    assert (found.cause, found.sentence) == (
        "killed", "big-1-bbbbb on gpu-2 was killed from outside (SIGKILL, exit code 137)"
    )  # fmt: skip


@pytest.mark.parametrize("line", [line for _, line in LINES if "NCCL" in line or "gloo" in line or "DistStore" in line])
def test_a_failure_of_what_connects_the_ranks_is_not_the_cause_where_another_pod_was_killed(line):
    killed = failed(137, METRIC, name="big-0-aaaaa", index=0, host="gpu-1")
    fell = failed(1, f"{FRAME}\n{line}\n", name="big-1-bbbbb", index=1)
    found = explain(seen("failed", nodes=2, pods=(killed, fell)))
    assert (found.cause, found.sentence.partition(" was")[0]) == ("killed", "big-0-aaaaa on gpu-1")


def test_a_rank_that_hung_is_the_cause_where_its_pod_was_only_killed_later():
    hung = failed(1, last_word(1, "no progress for 60 s, waiting for rank 1 (computing step 12): its stack trace is in its log"),
                  name="big-0-aaaaa", index=0)  # fmt: skip
    killed = failed(137, name="big-1-bbbbb", index=1)
    late = Container("terminated", "Error", "", 137, "2026-11-24T12:02:00Z")
    found = explain(seen("failed", nodes=2, pods=(hung, Pod(killed.name, "Failed", 1, container=late))))
    assert (found.cause, found.sentence) == ("hung", "rank 1 hung (computing step 12); the others waited until ddp_timeout")


@pytest.mark.parametrize("line", [METRIC, BAR, FRAME, '{"code": 7, "sentence": "no"}'])
def test_the_end_of_a_log_that_the_kubelet_took_for_the_last_words_is_not_told_as_a_sentence(line):
    found = explain(seen("failed", pods=(failed(1, f"{line}\n"),), lines=(line,)))
    assert found.sentence == "big ended with exit code 1: it printed no error"


def test_an_error_in_words_at_the_end_of_a_log_is_told():
    trace = ("Traceback (most recent call last):", FRAME, "[rank 0] mypackage.BadThing.OtherError: no such layer", METRIC)
    found = explain(seen("failed", pods=(failed(1, "\n".join(trace)),)))
    assert found.sentence == "big ended with exit code 1: mypackage.BadThing.OtherError: no such layer"


def test_a_node_that_fell_with_another_one_says_it_by_a_mark():
    words = '{"code": 1, "state": "failed", "is_consequence": true, "sentence": "cannot connect to the first node at a:1: see its log"}'
    fell = failed(1, words, name="big-1-bbbbb", index=1)
    cause = failed(1, last_word(1, "ValueError: no such layer"), name="big-0-aaaaa", index=0)
    assert explain(seen("failed", nodes=2, pods=(fell, cause))).sentence == (
        "big-0-aaaaa ended with exit code 1: ValueError: no such layer"
    )
    assert explain(seen("failed", nodes=2, pods=(fell,))).cause == "peer"


def test_a_run_that_trains_again_names_the_pod_that_was_killed_and_not_the_peer_that_ended_after_it():
    killed = failed(137, METRIC, name="big-1-bbbbb", index=1, host="gpu-2", created="2026-11-24T11:00:00Z")
    at = Container("terminated", "Error", last_word(1, "rank 1 is gone: no heartbeat for 60 s"), 1, "2026-11-24T12:00:09Z")
    fell = Pod("big-0-aaaaa", "Failed", 0, container=at, created="2026-11-24T11:00:00Z")
    again = [Pod(f"big-{n}-c", "Running", n, container=Container("running"), created="2026-11-24T12:00:20Z") for n in (0, 1)]
    found = explain(seen("running", nodes=2, pods=(killed, fell, *again), step=3))
    assert found.sentence == (
        "big runs: step 3; restarted once: big-1-bbbbb on gpu-2 was killed from outside (SIGKILL, exit code 137)"
    )


def test_of_several_nodes_the_one_whose_rank_was_killed_is_named():
    words = "a rank was killed (SIGKILL) by a user or the system; memory had not run out"
    killed = failed(137, last_word(137, words), name="big-1-bbbbb", index=1, host="gpu-2")
    assert explain(seen("failed", nodes=2, pods=(killed,))).sentence == f"big-1-bbbbb on gpu-2: {words}"


def test_a_node_that_shares_its_gpus_gives_a_pod_one():
    words = "Allocate failed due to rpc error: code = Unknown desc = request for 'nvidia.com/gpu: 2' too large: maximum request size for "
    words += "shared resources is 1, which is unexpected"
    found = explain(seen("failed", pods=(Pod("big-0-x7k2p", "Failed", 0, "gpu-1", "UnexpectedAdmissionError", words),)))
    assert found.cause == "gpu-sharing"
    assert found.sentence == "node gpu-1 shares its GPUs and gives a pod only one: big-0-x7k2p requests nvidia.com/gpu: 2"
    assert found.suggestion.startswith("start a new run with --gpus 1, or choose nodes with whole GPUs")


@pytest.mark.parametrize(
    ("reason", "words", "fix"),
    [
        ("TopologyAffinityError", "Resources cannot be allocated with Topology locality", "what one NUMA node has"),
        ("SysctlForbidden", 'forbidden sysctl: "net.core.somaxconn" not allowlisted', "choose other nodes"),
    ],
)
def test_a_pod_that_its_node_rejected_says_so(reason, words, fix):
    found = explain(seen("failed", pods=(Pod("big-0-x7k2p", "Failed", 0, "gpu-1", reason, words),)))
    assert (found.cause, found.sentence) == ("rejected", f"node gpu-1 rejected big-0-x7k2p ({reason}): {words}")
    assert fix in found.suggestion


@pytest.mark.parametrize(
    ("words", "cause", "sentence"),
    [
        (
            "Pod was terminated in response to imminent node shutdown.",
            "node-shutdown",
            "big-0-x7k2p is ending because its node spot-1 shuts down",
        ),
        (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 17348Ki.",
            "evicted",
            "big-0-x7k2p was evicted because its node spot-1 ran out of main memory",
        ),
    ],
)
def test_a_running_pod_that_its_node_ends_says_why(words, cause, sentence):
    leaving = Condition("DisruptionTarget", True, "TerminationByKubelet", words)
    found = explain(seen("running", pods=(Pod("big-0-x7k2p", "Running", 0, "spot-1", conditions=(leaving,)),)))
    assert (found.cause, found.sentence) == (cause, sentence)


def test_nodes_that_never_met_on_a_cluster_may_be_kept_apart_by_its_policies():
    late = "torch.distributed.DistStoreError: wait timeout after 1800000ms, keys: /default_pg/0//cuda//timeout"
    found = explain(seen("failed", pods=(failed(1),), lines=(late,), lines_of="big-0-x7k2p"))
    assert found.cause == "rendezvous"
    assert found.suggestion.startswith(
        "check that network policies let the run's pods connect to each other on every port (k8s/overlays/"
    )
    assert "network policies" not in explain(seen("failed", "host", exit_code=1, lines=(late,))).suggestion


def test_a_name_that_a_pod_cannot_resolve_may_be_kept_from_it_by_an_egress_policy():
    line = "socket.gaierror: [Errno -3] Temporary failure in name resolution"
    found = explain(seen("failed", pods=(failed(1),), lines=(line,), lines_of="big-0-x7k2p"))
    assert "check DNS, proxy and egress policies (k8s/examples/egress) where it runs" in found.suggestion
    assert "check DNS and proxy where it runs" in explain(seen("failed", "host", exit_code=1, lines=(line,))).suggestion
    unreachable = seen("failed", pods=(failed(48, last_word(48, "the hub cannot be reached: unknown host name")),))
    assert "egress policies" in explain(unreachable).suggestion


def test_trained_weights_that_are_not_finite_are_told_without_the_advice_which_follows():
    word = "trained weights are not finite (NaN or infinite): lower learning_rate"
    found = explain(seen("failed", "host", exit_code=46, sentence=word))
    assert found.sentence == "a health rule stopped it: trained weights are not finite (NaN or infinite)"
    assert found.suggestion.startswith("lower learning_rate; see its last steps with: ")


def test_a_base_model_that_is_not_finite_is_no_matter_of_the_learning_rate():
    word = "pairs.csv:3: the base model's log-probability is not finite; the weights are damaged, or the precision is too low"
    found = explain(seen("failed", "host", exit_code=46, sentence=word))
    assert found.suggestion == "download the base model again, or set torch_dtype: float32"
