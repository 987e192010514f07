"""What the scheduler and the controller of ResourceClaims say of pods whose devices are claimed (DRA)."""

import pytest

from launcher.why import Pod, explain
from tests.launcher.why.played import event, pending, seen

MISSING = [
    (
        '0/3 nodes are available: could not find v1 resourceclaim "dpo/shared-gpu". preemption: 0/3 nodes are available: 3 Preemption '
        "is not helpful for scheduling.",
        "ResourceClaim shared-gpu not found in the namespace",
        "kubectl -n dpo get resourceclaims",
    ),
    (
        '0/3 nodes are available: resourceclaim.resource.k8s.io "shared-gpu" not found.',
        "ResourceClaim shared-gpu not found in the namespace",
        "kubectl -n dpo get resourceclaims",
    ),
    (
        "0/3 nodes are available: 3 request gpu: device class gpu.nvidia.com does not exist. no new claims to deallocate",
        "DeviceClass gpu.nvidia.com not found in the cluster",
        "kubectl get deviceclasses",
    ),
    (
        "0/1 nodes are available: 1 resourceclaim in use.",
        "its ResourceClaim is in use by other pods",
        "kubectl -n dpo describe resourceclaims",
    ),
    (
        '0/1 nodes are available: waiting for dynamic resource controller to create the resourceclaim "big-0-gpu".',
        "its ResourceClaim is not created yet",
        "kubectl -n dpo describe resourceclaims",
    ),
]


@pytest.mark.parametrize(("message", "sentence", "command"), MISSING)
def test_what_is_missing_of_claimed_devices_is_named(message, sentence, command):
    found = explain(seen(pods=(pending(message),)))
    assert (found.cause, found.sentence) == ("devices", f"big-0-x7k2p waits for devices: {sentence}")
    assert found.suggestion.endswith(command)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            'PodResourceClaim gpu: resource claim template "one-gpu": resourceclaimtemplate.resource.k8s.io "one-gpu" not found',
            "ResourceClaimTemplate one-gpu not found in the namespace",
        ),
        ("PodResourceClaim gpu: quota is used up", "PodResourceClaim gpu: quota is used up"),
    ],
)
def test_a_claim_that_is_not_created_is_known_from_an_event_alone(message, sentence):
    """The scheduler does not try a pod whose claim is missing, and says nothing."""
    untried = Pod("big-0-x7k2p", "Pending", 0)
    found = explain(seen(pods=(untried,), events=(event("FailedResourceClaimCreation", message),)))
    assert (found.cause, found.sentence) == ("devices", f"big-0-x7k2p waits for devices: {sentence}")
