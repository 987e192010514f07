"""The signature of a run's image, which `cosign` verifies: an external tool, found on the PATH."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..errors import LauncherError
from ..experiment.sections.launch import SignedBy
from ..job.image import Image

_TIMEOUT: Final = 120.0  # seconds
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def command(reference: str, signer: SignedBy) -> list[str]:
    """What verifies the image, as a person can type it."""
    if signer.key is not None:
        who = ["--key", signer.key]
    else:
        who = ["--certificate-identity", str(signer.identity), "--certificate-oidc-issuer", str(signer.issuer)]
    return ["cosign", "verify", "--output", "json", *who, reference]


def verified(image: Image, signer: SignedBy, caller: Mapping[str, str]) -> Image:
    """``image`` by the digest whose signature was verified: a tag may name another image a moment later.

    Raises LauncherError if cosign is missing, or does not verify it.
    """
    words = command(image.reference, signer)
    try:
        done = subprocess.run(
            words, env=dict(caller), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise LauncherError(
            "cosign not found: launch.verify needs it to verify the image's signature\n"
            "    hint:     install it from https://docs.sigstore.dev/cosign/system_config/installation/"
        ) from None
    except subprocess.TimeoutExpired:
        raise LauncherError(f"cosign verify {image.reference}: no answer in {_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), f"exit {done.returncode}")
        who = signer.key or f"{signer.identity} ({signer.issuer})"
        raise LauncherError(f"the signature of image {image.reference} by {who} is not verified: {last}")
    return replace(image, reference=_by_digest(image.reference, done.stdout), built_for=image.architecture)


def _by_digest(reference: str, output: str) -> str:
    """``reference`` by its digest: its own, else the one that cosign prints with each signature."""
    name, _, digest = reference.partition("@")
    found = {digest} if digest else _digests(output)
    if len(found) != 1:
        raise LauncherError(
            f"cosign verify {reference} printed {len(found)} digests; name the image by its digest: {name}@sha256:…"
        )
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{found.pop()}"


def _digests(output: str) -> set[str]:
    """``critical.image.docker-manifest-digest`` of every payload."""
    try:
        payloads = json.loads(output)
    except ValueError:
        return set()
    found = {_digest(one) for one in payloads if isinstance(one, dict)} if isinstance(payloads, list) else set()
    return {one for one in found if _DIGEST.fullmatch(one)}


def _digest(payload: Mapping[str, Any]) -> str:
    critical = payload.get("critical") or {}
    return str((critical.get("image") or {}).get("docker-manifest-digest") or "")
