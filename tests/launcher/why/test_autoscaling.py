"""What autoscalers say of pods that no node can take: the cluster autoscaler (also of GKE and AKS) and Karpenter."""

from dataclasses import replace

import pytest

from launcher.why import explain
from tests.launcher.why.played import event, pending, seen

SCARCE = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available: 4 No preemption victims."
NONE_FREE = "no node can take big-0-x7k2p: 4 of 4 nodes have too little nvidia.com/gpu free"
WAIT = "wait: a new node takes minutes; if none comes, see: kubectl get nodes"


@pytest.mark.parametrize(
    ("reason", "message", "node"),
    [
        ("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 0->1 (max: 4)}]", "gpu-pool 0->1 (max: 4)"),
        ("Nominated", "Pod should schedule on: nodeclaim/gpu-x7k2q", "nodeclaim/gpu-x7k2q"),
    ],
)
def test_a_node_that_is_on_its_way_is_waited_for(reason, message, node):
    found = explain(seen(pods=(pending(SCARCE),), events=(event("FailedScheduling", SCARCE), event(reason, message))))
    assert found.cause == "unschedulable"
    assert found.sentence == f"{NONE_FREE}; the autoscaler has asked for a node ({node})"
    assert found.suggestion == WAIT


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        (
            "NotTriggerScaleUp",
            "pod didn't trigger scale-up: 2 max node group size reached, 1 in backoff after failed scale-up",
            ": 2 max node group size reached, 1 in backoff after failed scale-up",
        ),
        ("NotTriggerScaleUp", "pod didn't trigger scale-up (it wouldn't fit if a new node is added): ", ""),
        (
            "FailedScheduling",
            'Failed to schedule pod, incompatible with nodepool "gpu", no instance type satisfied resources {"nvidia.com/gpu":"16"}',
            ': incompatible with nodepool "gpu", no instance type satisfied resources {"nvidia.com/gpu":"16"}',
        ),
    ],
)
def test_an_autoscaler_that_adds_no_node_says_why(reason, message, told):
    found = explain(seen(pods=(pending(SCARCE),), gpus=8, events=(event(reason, message),)))
    assert found.sentence == f"{NONE_FREE}; the autoscaler adds no node{told}"
    assert found.suggestion.startswith("wait, request fewer than 8 per node with --gpus")


def test_the_last_word_of_the_autoscaler_counts():
    asked = event("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 0->1 (max: 1)}]")
    refused = replace(
        event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"), time="2026-11-24T12:09:00Z"
    )
    found = explain(seen(pods=(pending(SCARCE),), events=(refused, asked)))
    assert found.sentence.endswith("; the autoscaler adds no node: 1 max node group size reached")


def test_a_volume_that_no_node_can_mount_is_not_the_autoscalers_matter():
    unbound = pending("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    refused = event("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 pod has unbound immediate PersistentVolumeClaims")
    assert explain(seen(pods=(unbound,), events=(refused,))).sentence == "big-0-x7k2p waits for a claim that has no volume yet"


def test_another_pods_node_is_not_this_pods():
    other = event("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 0->1 (max: 4)}]", name="small-0-aaaaa")
    assert explain(seen(pods=(pending(SCARCE),), events=(other,))).sentence == NONE_FREE
