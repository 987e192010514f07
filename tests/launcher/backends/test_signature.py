"""The signature of an image: what cosign is asked, and what its answer means. A script plays cosign at the process edge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.backends.signature import verified
from launcher.errors import LauncherError
from launcher.experiment.sections.launch import SignedBy
from launcher.job.image import Image

DIGEST = "sha256:" + "ab" * 32
PAYLOAD = {"critical": {"identity": {}, "image": {"docker-manifest-digest": DIGEST}, "type": "cosign container image signature"}}
KEY = SignedBy(key="cosign.pub")


def cosign(folder: Path, code: int, out: str, err: str = "") -> dict[str, str]:
    """The environment with a cosign that notes its arguments and ends as told."""
    file = folder / "cosign"
    (folder / "out").write_text(out)
    (folder / "err").write_text(err)
    file.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/args\ncat {folder}/err >&2\ncat {folder}/out\nexit {code}\n')
    file.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def args(folder: Path) -> list[str]:
    return (folder / "args").read_text().splitlines()


def test_a_tag_becomes_the_digest_whose_signature_was_verified(tmp_path: Path) -> None:
    caller = cosign(tmp_path, 0, json.dumps([PAYLOAD, PAYLOAD]))
    image = Image("registry.example.com:5000/team/dpo:1.2", "cuda")
    assert verified(image, KEY, caller) == Image(f"registry.example.com:5000/team/dpo@{DIGEST}", "cuda")
    assert args(tmp_path) == ["verify", "--output", "json", "--key", "cosign.pub", "registry.example.com:5000/team/dpo:1.2"]


def test_a_keyless_signature_is_of_an_identity_and_its_issuer(tmp_path: Path) -> None:
    caller = cosign(tmp_path, 0, "[]")
    image = Image(f"ghcr.io/org/dpo@{DIGEST}", "cpu")
    signer = SignedBy(
        identity="https://github.com/org/dpo/.github/workflows/ci.yml@refs/tags/v1", issuer="https://issuer.example"
    )
    assert verified(image, signer, caller) == image
    who = ["--certificate-identity", str(signer.identity), "--certificate-oidc-issuer", "https://issuer.example"]
    assert args(tmp_path) == ["verify", "--output", "json", *who, image.reference]


def test_an_image_that_is_not_verified_is_refused_with_what_cosign_said(tmp_path: Path) -> None:
    caller = cosign(
        tmp_path, 10, "", "Error: no signatures found\nmain.go:69: error during command execution: no signatures found\n\n"
    )
    words = r"^the signature of image dpo:1 by cosign.pub is not verified: main.go:69: error .*: no signatures found$"
    with pytest.raises(LauncherError, match=words):
        verified(Image("dpo:1", "cpu"), KEY, caller)


def test_a_tag_without_a_digest_in_the_answer_is_refused(tmp_path: Path) -> None:
    caller = cosign(tmp_path, 0, "not JSON")
    with pytest.raises(
        LauncherError, match=r"^cosign verify x/dpo:1 printed 0 digests; name the image by its digest: x/dpo:1@sha256:…$"
    ):
        verified(Image("x/dpo:1", "cpu"), KEY, caller)


def test_without_cosign_the_error_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match=r"^cosign not found: .*\n    hint:     install it from https://docs.sigstore.dev/"):
        verified(Image("dpo:1", "cpu"), KEY, {"PATH": str(tmp_path)})
