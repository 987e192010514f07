"""What schedulers really say, from 1.2x to 1.36."""

from dataclasses import replace

import pytest

from launcher.why import explain
from tests.launcher.why.played import pending, seen

UNSCHEDULABLE = [
    (
        "0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint "
        "{node-role.kubernetes.io/control-plane: }. preemption: 0/5 nodes are available: 3 No preemption victims found for "
        "incoming pod, 2 Preemption is not helpful for scheduling.",
        "no node can take big-0-x7k2p: 3 of 5 nodes have too little nvidia.com/gpu free and 2 have an untolerated taint "
        "(node-role.kubernetes.io/control-plane)",
    ),
    (
        "0/7 nodes are available: 3 Insufficient nvidia.com/gpu, 4 node(s) didn't match Pod's node affinity/selector. preemption: "
        "0/7 nodes are available: 3 No preemption victims found for incoming pod, 4 Preemption is not helpful for scheduling.",
        "no node can take big-0-x7k2p: 3 of 7 nodes have too little nvidia.com/gpu free and 4 lack a label that it needs",
    ),
    (
        "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint(s). preemption: 0/2 "
        "nodes are available: 2 Preemption is not helpful for scheduling.",
        "no node can take big-0-x7k2p: 1 of 2 nodes has too little cpu free, 1 has too little memory free and 1 has an untolerated "
        "taint",
    ),
    (
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu, 2 Insufficient memory. no new claims to "
        "deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        "no node can take big-0-x7k2p: 2 of 3 nodes have too little cpu free, 2 have too little memory free and 1 has an untolerated "
        "taint",
    ),
    (
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful "
        "for scheduling.",
        "no node can take big-0-x7k2p: the only node has too little nvidia.com/gpu free",
    ),
    (
        "0/6 nodes are available: 3 node(s) had taint {dedicated: other}, that the pod didn't tolerate, 3 node(s) were unschedulable.",
        "no node can take big-0-x7k2p: 3 of 6 nodes have an untolerated taint (dedicated: other) and 3 are cordoned",
    ),
    (
        "0/4 nodes are available: 4 node(s) didn't match pod topology spread constraints.",
        "no node can take big-0-x7k2p: 4 of 4 nodes already hold another pod of this run",
    ),
    (  # since 1.34
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu. still not schedulable, "
        "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming "
        "pod.",
        "no node can take big-0-x7k2p: 2 of 3 nodes have too little nvidia.com/gpu free and 1 has an untolerated taint",
    ),
    (
        "0/2 nodes are available: 1 cannot allocate all claims, 1 node(s) didn't match Pod's node affinity/selector. still not "
        "schedulable, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        "no node can take big-0-x7k2p: 1 of 2 nodes has no free devices for its resource claims and 1 lacks a label that "
        "it needs",
    ),
    (
        "0/4 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 2 node(s) had untolerated taint "
        "{node.kubernetes.io/disk-pressure: }, 1 node(s) had untolerated taint {node.kubernetes.io/unschedulable: }.",
        "no node can take big-0-x7k2p: 1 of 4 nodes is not ready, 2 are short of disk and 1 is cordoned",
    ),
    ("no nodes available to schedule pods", "no node can take big-0-x7k2p: no nodes available to schedule pods"),
]


@pytest.mark.parametrize(("message", "sentence"), UNSCHEDULABLE)
def test_the_schedulers_message_is_told_resource_by_resource_with_its_nodes(message, sentence):
    found = explain(seen(pods=(pending(message),), gpus=8))
    assert (found.cause, found.sentence) == ("unschedulable", sentence)


@pytest.mark.parametrize(
    ("message", "suggestion"),
    [
        ("1 Insufficient nvidia.com/gpu", "wait, request fewer than 8 per node with --gpus"),
        ("1 Insufficient nvidia.com/mig-3g.40gb", "wait, request fewer than 8 per node with --gpus"),
        ("1 Insufficient amd.com/gpu", "wait, request fewer than 8 per node with --gpus"),
        (
            "1 Insufficient ephemeral-storage",
            "lower the request of ephemeral-storage in launch.kubernetes.pod, or remove it with its limit (null), or free",
        ),
        ("1 Insufficient memory", "lower launch.memory (now 64Gi), or wait until other pods end"),
        ("1 Insufficient cpu", "lower launch.cpus, or wait until other pods end"),
        (
            "1 node(s) had untolerated taint {sku: gpu}",
            "add the taint to launch.kubernetes.tolerations: [{key: sku, operator: Exists}]",
        ),
        ("1 node(s) had untolerated taint(s)", "if you may use these nodes, add the taint to launch.kubernetes.tolerations"),
        ("1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }", "wait until the node is ready, or tell"),
        ("1 cannot allocate all claims", "see them with: kubectl -n dpo get resourceclaims"),
        ("1 node(s) didn't match Pod's node affinity/selector", "see the labels with: kubectl get nodes --show-labels"),
        ("1 node(s) were unschedulable", "kubectl uncordon NODE"),
        ("1 node(s) didn't match pod anti-affinity rules", "request fewer with --nodes"),
        ("1 Too many pods", "wait, or request less"),
        ("1 node(s) had something new", "see what is free with: kubectl describe nodes"),
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
        "big-0-x7k2p waits for a claim: dpo-runs not found",
    ),
    (
        "0/6 nodes are available: 6 node(s) had volume node affinity conflict.",
        "no node can take big-0-x7k2p: 6 of 6 nodes cannot mount the claim's volume, which belongs to another node",
    ),
    (  # since 1.34
        "0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity. still not schedulable, preemption: 0/3 "
        "nodes are available: 3 Preemption is not helpful for scheduling.",
        "no node can take big-0-x7k2p: 3 of 3 nodes cannot mount the claim's volume, which belongs to another node",
    ),
    (
        "0/2 nodes are available: 2 node(s) did not have enough free storage.",
        "no node can take big-0-x7k2p: 2 of 2 nodes have too little storage free for the claim's volume",
    ),
    (
        "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind. preemption: 0/1 nodes are available: 1 "
        "Preemption is not helpful for scheduling.",
        "no node can take big-0-x7k2p: the only node has no volume for the claim",
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
        "no node can take big-0-x7k2p: 2 of 3 nodes cannot mount the claim's volume, which belongs to another node and 1 has too little "
        "cpu free",
    )


def test_the_labels_that_no_node_has_are_named():
    pod = replace(
        pending("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
        selector=("kubernetes.io/arch=amd64", "pool=gpus"),
    )
    assert explain(seen(pods=(pod,))).sentence == (
        "no node can take big-0-x7k2p: 3 of 3 nodes lack a label that it needs; its node must have kubernetes.io/arch=amd64, pool=gpus"
    )
    short = replace(pod, conditions=pending("0/1 nodes are available: 1 Insufficient cpu.").conditions)
    assert "its node must have" not in explain(seen(pods=(short,))).sentence
