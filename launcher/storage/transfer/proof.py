"""Compares an object with what was sent: by size and the server's SHA-256, else by its ETag, else by reading it back."""

from __future__ import annotations

from itertools import chain

from ...errors import UploadError
from ..client.store import Store, base64_of
from .local import Digests, LocalFile


def check(store: Store, key: str, file: LocalFile, digests: Digests) -> None:
    """Raises UploadError with what was expected and found if the object differs from the file."""
    different = differs(store, key, file, digests)
    if different is not None:
        raise UploadError(f"s3://{store.bucket}/{key}: {different}: the object differs from what was sent")


def differs(store: Store, key: str, file: LocalFile, digests: Digests) -> str | None:
    """What was expected and found of an object that differs from the file; None if it is equal."""
    head = store.call("head_object", Key=key, ChecksumMode="ENABLED")
    if head["ContentLength"] != file.size:
        return f"expected bytes {file.size}, found {head['ContentLength']}"
    # AWS adds "-<number of parts>" to the hash of hashes, other servers do not; base64 has no "-".
    kept = str(head.get("ChecksumSHA256") or "").partition("-")[0]
    expected = base64_of(digests.composite)
    if kept:
        return None if kept == expected else f"expected SHA-256 {expected}, found {kept}"
    if head.get("ETag", "").strip('"') == file.etag():
        return None
    # No checksum, and an ETag that is no MD5: the object is read back.
    found = store.patiently(lambda: _read_back(store, key, file.part))
    return None if found == digests else f"expected SHA-256 {expected}, found {base64_of(found.composite)}"


def _read_back(store: Store, key: str, part: int) -> Digests:
    body = store.client.get_object(Bucket=store.bucket, Key=key)["Body"]
    first = body.read(part)
    return Digests.of(chain([first], iter(lambda: body.read(part), b"")))
