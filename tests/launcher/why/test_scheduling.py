"""What schedulers really say, from 1.2x to 1.36."""

import pytest

from launcher.why import explain
from tests.launcher.why.played import pending, seen

UNSCHEDULABLE = [
    (
        "0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint "
        "{node-role.kubernetes.io/control-plane: }. preemption: 0/5 nodes are available: 3 No preemption victims found for "
        "incoming pod, 2 Preemption is not helpful for scheduling.",
        "no node takes big-0-x7k2p: 3 of 5 nodes have too little nvidia.com/gpu free and 2 have a taint that the run does not "
        "tolerate (node-role.kubernetes.io/control-plane)",
    ),
    (
        "0/7 nodes are available: 3 Insufficient nvidia.com/gpu, 4 node(s) didn't match Pod's node affinity/selector. preemption: "
        "0/7 nodes are available: 3 No preemption victims found for incoming pod, 4 Preemption is not helpful for scheduling.",
        "no node takes big-0-x7k2p: 3 of 7 nodes have too little nvidia.com/gpu free and 4 lack a label of "
        "launch.kubernetes.node_selector",
    ),
    (
        "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint(s). preemption: 0/2 "
        "nodes are available: 2 Preemption is not helpful for scheduling.",
        "no node takes big-0-x7k2p: 1 of 2 nodes has too little cpu free, 1 has too little memory free and 1 has a taint that the "
        "run does not tolerate",
    ),
    (
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu, 2 Insufficient memory. no new claims to "
        "deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        "no node takes big-0-x7k2p: 2 of 3 nodes have too little cpu free, 2 have too little memory free and 1 has a taint that the "
        "run does not tolerate",
    ),
    (
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful "
        "for scheduling.",
        "no node takes big-0-x7k2p: the only node has too little nvidia.com/gpu free",
    ),
    (
        "0/6 nodes are available: 3 node(s) had taint {dedicated: other}, that the pod didn't tolerate, 3 node(s) were unschedulable.",
        "no node takes big-0-x7k2p: 3 of 6 nodes have a taint that the run does not tolerate (dedicated: other) and 3 are closed for "
        "new pods (cordoned)",
    ),
    (
        "0/4 nodes are available: 4 node(s) didn't match pod topology spread constraints.",
        "no node takes big-0-x7k2p: 4 of 4 nodes hold another node of this run already",
    ),
    ("no nodes available to schedule pods", "no node takes big-0-x7k2p: no nodes available to schedule pods"),
]


@pytest.mark.parametrize(("message", "sentence"), UNSCHEDULABLE)
def test_the_schedulers_message_is_told_resource_by_resource_with_its_nodes(message, sentence):
    found = explain(seen(pods=(pending(message),), gpus=8))
    assert (found.cause, found.sentence) == ("unschedulable", sentence)


@pytest.mark.parametrize(
    ("message", "suggestion"),
    [
        ("1 Insufficient nvidia.com/gpu", "it asks for 8 a node: wait for others, or ask for fewer with --gpus"),
        ("1 Insufficient memory", "lower launch.memory (it asks for 64Gi), or wait until others are done"),
        ("1 Insufficient cpu", "lower launch.cpus, or wait until others are done"),
        ("1 node(s) had untolerated taint {a: b}", "tolerate it under launch.kubernetes.tolerations"),
        ("1 node(s) didn't match Pod's node affinity/selector", "`kubectl get nodes --show-labels`"),
        ("1 node(s) were unschedulable", "`kubectl uncordon NODE`"),
        ("1 node(s) didn't match pod anti-affinity rules", "ask for fewer nodes with --nodes"),
        ("1 Too many pods", "wait until others are done"),
        ("1 node(s) had something new", "`kubectl describe nodes`"),
    ],
)
def test_what_to_do_depends_on_what_is_missing(message, suggestion):
    found = explain(seen(pods=(pending(f"0/1 nodes are available: {message}."),), gpus=8, memory="64Gi"))
    assert suggestion in found.suggestion


VOLUMES = [
    (
        "0/5 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/5 nodes are available: 5 Preemption "
        "is not helpful for scheduling.",
        "big-0-x7k2p waits for a claim that has no volume yet",
    ),
    (
        '0/1 nodes are available: persistentvolumeclaim "dpo-runs" not found. preemption: 0/1 nodes are available: 1 Preemption is '
        "not helpful for scheduling.",
        "big-0-x7k2p waits for the claim dpo-runs, which is not there",
    ),
    (
        "0/6 nodes are available: 6 node(s) had volume node affinity conflict.",
        "no node takes big-0-x7k2p: 6 of 6 nodes cannot reach the claim's volume, which is tied to another node",
    ),
    (
        "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind. preemption: 0/1 nodes are available: 1 "
        "Preemption is not helpful for scheduling.",
        "no node takes big-0-x7k2p: the only node has no volume that fits the claim",
    ),
]


@pytest.mark.parametrize(("message", "sentence"), VOLUMES)
def test_a_claim_without_a_reachable_volume_is_a_cause_of_its_own(message, sentence):
    found = explain(seen(pods=(pending(message),)))
    assert (found.cause, found.sentence) == ("volume", sentence)


def test_of_several_reasons_the_one_counts_that_waiting_does_not_mend():
    message = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had volume node affinity conflict."
    found = explain(seen(pods=(pending(message),)))
    assert (found.cause, found.sentence) == (
        "volume",
        "no node takes big-0-x7k2p: 2 of 3 nodes cannot reach the claim's volume, which is tied to another node and 1 has too little "
        "cpu free",
    )
