"""Whether an object is what was sent: its size, and the SHA-256 that the server keeps, else its ETag, else all of it."""

from __future__ import annotations

from itertools import chain

from ..errors import UploadError
from .client import Store, base64_of
from .local import Digests, LocalFile


def check(store: Store, key: str, file: LocalFile, digests: Digests) -> None:
    """Raises UploadError, with what was expected and found, where the object is not the file."""
    different = differs(store, key, file, digests)
    if different is not None:
        raise UploadError(f"s3://{store.bucket}/{key}: {different}: the object is not what was sent")


def differs(store: Store, key: str, file: LocalFile, digests: Digests) -> str | None:
    """What is expected and found of an object that is not the file; None for one that is."""
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
    # No checksum, and an ETag that this server makes of something else: what it has is read.
    found = store.patiently(lambda: _read_back(store, key, file.part))
    return None if found == digests else f"expected SHA-256 {expected}, found {base64_of(found.composite)}"


def _read_back(store: Store, key: str, part: int) -> Digests:
    body = store.client.get_object(Bucket=store.bucket, Key=key)["Body"]
    first = body.read(part)
    return Digests.of(chain([first], iter(lambda: body.read(part), b"")))
