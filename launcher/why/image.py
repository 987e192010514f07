"""Why an image cannot be pulled: from the messages of registries, containerd and the kubelet."""

from __future__ import annotations

import re
from typing import Final

from .evidence import Evidence, Explanation

WAITING: Final = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)

_CAUSES: Final = (
    ("rate-limit", r"toomanyrequests|Too Many Requests|\b429\b", "the registry's pull limit is reached",
     "wait, use your own registry, or pull with an account: set launch.kubernetes.image_pull_secrets"),
    ("architecture", r"no match for platform in manifest|no matching manifest for",
     "the image is built for another CPU architecture than the node's",
     "set kubernetes.io/arch in launch.kubernetes.node_selector, or build it on that architecture with: launcher build"),
    ("image-name", r"InvalidImageName|invalid reference format|couldn't parse image (reference|name)",
     "invalid image name",
     "correct launch.image, or push an image and print its name with: launcher build --push --registry NAME"),
    ("image-never-pulled", r"ErrImageNeverPull|is not present with pull policy of Never",
     "the image is not on the node, and the pull policy is Never",
     "load it into the node (e.g. k3s ctr images import), or push it with: launcher build --push --registry NAME"),
    ("registry-host", r"no such host|server misbehaving|lookup \S+: |Temporary failure in name resolution",
     "the node cannot resolve the registry's host name", "check the host name in launch.image, and the node's DNS"),
    ("certificate", r"x509: |certificate signed by unknown authority", "the node does not trust the registry's certificate",
     "add the certificate to containerd on the nodes (certs.d), or use another registry"),
    ("certificate", r"server gave HTTP response to HTTPS client", "the registry speaks HTTP, but the node expects HTTPS",
     "add it as an insecure mirror to containerd on the nodes (certs.d), or give the registry a certificate"),
    ("image-not-found", r"manifest unknown|name unknown|repository name not known|: not found\b|NotFound",
     "image not found in the registry",
     "check its name and tag, or push this checkout's image with: launcher build --push --registry NAME"),
    ("unauthorized", r"unauthorized|pull access denied|insufficient_scope|authorization failed|no basic auth|denied|\b40[13] ",
     "permission denied by the registry, or image not found",
     "set launch.kubernetes.image_pull_secrets to a secret created with: kubectl create secret docker-registry"),
    ("node-disk", r"no space left on device", "the node's disk is full",
     "free disk space on the node, or wait: the kubelet removes unused images"),
    ("registry-unreachable", r"i/o timeout|connection refused|connection reset|TLS handshake timeout|DeadlineExceeded|\bEOF\b",
     "the node cannot connect to the registry",
     "check the node's network, proxy and firewall; the pull is retried automatically"),
)  # fmt: skip


def not_pulled(seen: Evidence, pod: str, words: str) -> Explanation:
    """Why the image of ``pod`` cannot be pulled, from the messages of kubelet and registry."""
    image = found[1] if (found := re.search(r'image "([^"]+)"', words)) else seen.image or "the image"
    for cause, pattern, meaning, suggestion in _CAUSES:
        if re.search(pattern, words, re.IGNORECASE):
            return Explanation(cause, f"cannot pull {image}: {meaning}", suggestion)
    return Explanation("image", f"cannot pull {image}: {words.strip()}", seen.look(pod))
