"""What containerd, engines and kubelets really say of images."""

import pytest

from launcher.why import explain
from tests.launcher.why.played import event, seen, waits

PULL = 'failed to pull and unpack image "registry.example.com/team/dpo:1": '
RESOLVE = PULL + 'failed to resolve reference "registry.example.com/team/dpo:1": '
IMAGES = [
    ("image-not-found", RESOLVE + "registry.example.com/team/dpo:1: not found"),
    (
        "unauthorized",
        RESOLVE + "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
    ),
    (
        "unauthorized",
        RESOLVE + "unexpected status from HEAD request to https://registry.example.com/v2/team/dpo/manifests/1: 403 Forbidden",
    ),
    (
        "registry-host",
        RESOLVE + 'failed to do request: Head "https://registry.example.com/v2/team/dpo/manifests/1": dial tcp: lookup '
        "registry.example.com on 127.0.0.53:53: no such host",
    ),
    (
        "registry-unreachable",
        RESOLVE
        + 'failed to do request: Head "https://registry.example.com/v2/team/dpo/manifests/1": dial tcp 192.0.2.7:443: i/o '
        "timeout",
    ),
    (
        "rate-limit",
        "Error response from daemon: toomanyrequests: You have reached your unauthenticated pull rate limit. "
        "https://www.docker.com/increase-rate-limit",
    ),
    (
        "certificate",
        RESOLVE + 'failed to do request: Head "https://registry.example.com/v2/": tls: failed to verify certificate: x509: '
        "certificate signed by unknown authority",
    ),
    (
        "certificate",
        RESOLVE
        + 'failed to do request: Head "https://registry.example.com/v2/": http: server gave HTTP response to HTTPS client',
    ),
    ("architecture", PULL + "no match for platform in manifest: not found"),
    ("node-disk", PULL + "failed to extract layer: write /var/lib/containerd/io: no space left on device"),
]


@pytest.mark.parametrize(("cause", "message"), IMAGES)
def test_an_image_that_is_not_pulled_says_what_the_registry_or_the_node_objects_to(cause, message):
    told = event("Failed", f'Failed to pull image "registry.example.com/team/dpo:1": {message}')
    back_off = waits("ImagePullBackOff", 'Back-off pulling image "registry.example.com/team/dpo:1"')
    found = explain(seen(pods=(back_off,), events=(told, event("Failed", "Error: ImagePullBackOff"))))
    assert found.cause == cause
    assert found.sentence.startswith("cannot pull registry.example.com/team/dpo:1: ")


def test_newer_kubelets_tell_the_reason_of_a_back_off_in_the_container_itself():
    message = f'Back-off pulling image "registry.example.com/team/dpo:1": ErrImagePull: {RESOLVE}registry.example.com/team/dpo:1: not found'
    found = explain(seen(pods=(waits("ImagePullBackOff", message),), unseen=("events: forbidden",)))
    assert found.sentence == "cannot pull registry.example.com/team/dpo:1: image not found in the registry"
    assert found.suggestion == (
        "check its name and tag, or push this checkout's image with: launcher build --push --registry NAME"
    )


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        ("InvalidImageName", 'Failed to apply default image tag "Dpo:1": couldn\'t parse image name "Dpo:1"', "image-name"),
        (
            "ErrImageNeverPull",
            'Container image "dpo-launcher:cpu-1" is not present with pull policy of Never',
            "image-never-pulled",
        ),
    ],
)
def test_a_name_that_cannot_be_one_and_an_image_that_may_not_be_pulled(reason, message, cause):
    assert explain(seen(pods=(waits(reason, message),))).cause == cause


def test_a_pull_secret_that_is_missing_is_named():
    """The kubelet pulls without it: the registry's words alone are those of a wrong one."""
    denied = event("Failed", f'Failed to pull image "registry.example.com/team/dpo:1": {RESOLVE}pull access denied')
    missing = "Unable to retrieve some image pull secrets (registry); attempting to pull the image may not succeed."
    back_off = waits("ImagePullBackOff", 'Back-off pulling image "registry.example.com/team/dpo:1"')
    found = explain(seen(pods=(back_off,), events=(event("FailedToRetrieveImagePullSecret", missing), denied)))
    assert found.sentence == "cannot pull registry.example.com/team/dpo:1: pull secret registry not found in the namespace"
    assert found.suggestion == "create it with: kubectl -n dpo create secret docker-registry registry"
    gone = event("Failed", f'Failed to pull image "registry.example.com/team/dpo:1": {RESOLVE}team/dpo:1: not found')
    other = explain(seen(pods=(back_off,), events=(event("FailedToRetrieveImagePullSecret", missing), gone)))
    assert other.cause == "image-not-found", "a secret would not help"
