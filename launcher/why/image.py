"""Why an image cannot be pulled: from the messages of registries, containerd and the kubelet."""

from __future__ import annotations

import re
from typing import Final

from .evidence import Evidence, Explanation
from .known import Known

_MISSING: Final = re.compile(r"Unable to retrieve some image pull secrets \(([^)]+)\)")  # of the event below
NO_SECRET: Final = "FailedToRetrieveImagePullSecret"
WAITING: Final = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)

CAUSES: Final = (
    Known(
        r"toomanyrequests|Too Many Requests|\b429\b",
        "rate-limit",
        "the registry's pull limit is reached",
        "wait, use your own registry, or pull with an account: set launch.kubernetes.image_pull_secrets",
        "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
    ),
    Known(
        r"no match for platform in manifest|no matching manifest for",
        "architecture",
        "the image is built for another CPU architecture than the node's",
        "set kubernetes.io/arch in launch.kubernetes.node_selector, or build it on that architecture with: launcher build",
        'failed to pull and unpack image "registry.example.com/team/dpo:1": no match for platform in manifest: not found',
    ),
    Known(
        r"InvalidImageName|invalid reference format|couldn't parse image (reference|name)",
        "image-name",
        "invalid image name",
        "correct launch.image, or push an image and print its name with: launcher build --push --registry NAME",
        'InvalidImageName: Failed to apply default image tag "Dpo:1": couldn\'t parse image name "Dpo:1"',
    ),
    Known(
        r"ErrImageNeverPull|is not present with pull policy of Never",
        "image-never-pulled",
        "the image is not on the node, and the pull policy is Never",
        "load it into the node (e.g. k3s ctr images import), or push it with: launcher build --push --registry NAME",
        'ErrImageNeverPull: Container image "dpo-launcher:cpu-1" is not present with pull policy of Never',
    ),
    Known(
        r"no such host|server misbehaving|lookup \S+: |Temporary failure in name resolution",
        "registry-host",
        "the node cannot resolve the registry's host name",
        "check the host name in launch.image, and the node's DNS",
        "dial tcp: lookup registry.example.com on 127.0.0.53:53: no such host",
    ),
    Known(
        r"x509: |certificate signed by unknown authority",
        "certificate",
        "the node does not trust the registry's certificate",
        "add the certificate to containerd on the nodes (certs.d), or use another registry",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    ),
    Known(
        r"server gave HTTP response to HTTPS client",
        "certificate",
        "the registry speaks HTTP, but the node expects HTTPS",
        "add it as an insecure mirror to containerd on the nodes (certs.d), or give the registry a certificate",
        "http: server gave HTTP response to HTTPS client",
    ),
    Known(
        r"manifest unknown|name unknown|repository name not known|: not found\b|NotFound",
        "image-not-found",
        "image not found in the registry",
        "check its name and tag, or push this checkout's image with: launcher build --push --registry NAME",
        'failed to resolve reference "registry.example.com/team/dpo:1": registry.example.com/team/dpo:1: not found',
    ),
    Known(
        r"unauthorized|pull access denied|insufficient_scope|authorization failed|no basic auth|denied|\b40[13] ",
        "unauthorized",
        "permission denied by the registry, or image not found",
        "set launch.kubernetes.image_pull_secrets to a secret created with: kubectl create secret docker-registry",
        "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
    ),
    Known(
        r"no space left on device",
        "node-disk",
        "the node's disk is full",
        "free disk space on the node, or wait: the kubelet removes unused images",
        "failed to extract layer: write /var/lib/containerd/io: no space left on device",
    ),
    Known(
        r"i/o timeout|connection refused|connection reset|TLS handshake timeout|DeadlineExceeded|\bEOF\b",
        "registry-unreachable",
        "the node cannot connect to the registry",
        "check the node's network, proxy and firewall; the pull is retried automatically",
        "dial tcp 192.0.2.7:443: i/o timeout",
    ),
)


def not_pulled(seen: Evidence, pod: str, words: str) -> Explanation:
    """Why the image of ``pod`` cannot be pulled, from the messages of kubelet and registry."""
    image = found[1] if (found := re.search(r'image "([^"]+)"', words)) else seen.image or "the image"
    for known in CAUSES:
        if re.search(known.pattern, words, re.IGNORECASE):
            if known.cause == "unauthorized" and (secret := _MISSING.search(words)) is not None:
                return _without_secret(seen, image, secret[1])
            return Explanation(known.cause, f"cannot pull {image}: {known.meaning}", known.suggestion)
    return Explanation("image", f"cannot pull {image}: {words.strip()}", seen.look(pod))


def _without_secret(seen: Evidence, image: str, secrets: str) -> Explanation:
    """The kubelet pulls without a pull secret that it does not find, and only an event tells it."""
    names = [one.strip() for one in secrets.split(",")]
    several = f"pull secrets {', '.join(names)}" if len(names) > 1 else f"pull secret {names[0]}"
    create = f"create it with: {seen.kubectl} create secret docker-registry {names[0]}"
    return Explanation("unauthorized", f"cannot pull {image}: {several} not found in the namespace", create)
