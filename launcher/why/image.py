"""Why an image is not pulled: the words of registries, containerd and the kubelet."""

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
    ("rate-limit", r"toomanyrequests|Too Many Requests|\b429\b", "the registry's limit of pulls is reached",
     "wait, pull with an account (launch.kubernetes.image_pull_secrets), or use a registry of your own"),
    ("architecture", r"no match for platform in manifest|no matching manifest for",
     "the image is for another processor than the node's",
     "build it for the nodes' architecture, or choose nodes by launch.kubernetes.node_selector (kubernetes.io/arch)"),
    ("image-name", r"InvalidImageName|invalid reference format|couldn't parse image (reference|name)",
     "that is no image's name", "correct launch.image; `launcher build --push --registry …` prints one that is right"),
    ("image-never-pulled", r"ErrImageNeverPull|is not present with pull policy of Never",
     "the node does not have it, and may not pull it",
     "load it into the node (`kind load docker-image`, `k3s ctr images import`), or push it with `launcher build --push`"),
    ("registry-host", r"no such host|server misbehaving|lookup \S+: |Temporary failure in name resolution",
     "the registry's name is unknown to the node", "check the name in launch.image, and the node's DNS"),
    ("certificate", r"x509: |certificate signed by unknown authority", "the node does not trust the registry's certificate",
     "give the certificate to containerd on the nodes (certs.d), or use another registry"),
    ("certificate", r"server gave HTTP response to HTTPS client", "the registry speaks HTTP, and the node expects HTTPS",
     "name it as an insecure mirror in the nodes' containerd (certs.d), or give it a certificate"),
    ("image-not-found", r"manifest unknown|name unknown|repository name not known|: not found\b|NotFound",
     "the registry has no such image", "check its name and tag; `launcher build --push --registry …` pushes this checkout's"),
    ("unauthorized", r"unauthorized|pull access denied|insufficient_scope|authorization failed|no basic auth|denied|\b40[13] ",
     "the registry does not let the cluster have it, or it does not exist",
     "`kubectl create secret docker-registry …`, and name the secret under launch.kubernetes.image_pull_secrets"),
    ("node-disk", r"no space left on device", "the node's disk is full",
     "make room on the node, or wait: the kubelet removes images that nobody uses"),
    ("registry-unreachable", r"i/o timeout|connection refused|connection reset|TLS handshake timeout|DeadlineExceeded|\bEOF\b",
     "the registry cannot be reached from the node", "check the node's network, proxy and firewall; it is tried again by itself"),
)  # fmt: skip


def not_pulled(seen: Evidence, pod: str, words: str) -> Explanation:
    """Why the image of ``pod`` is not pulled, from all that kubelet and registry said of it."""
    image = found[1] if (found := re.search(r'image "([^"]+)"', words)) else seen.image or "the image"
    for cause, pattern, meaning, suggestion in _CAUSES:
        if re.search(pattern, words, re.IGNORECASE):
            return Explanation(cause, f"{image} is not pulled: {meaning}", suggestion)
    return Explanation("image", f"{image} is not pulled: {words.strip()}", f"`{seen.kubectl} describe pod {pod}` says more")
