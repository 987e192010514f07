"""Objects of a bucket: listing a place, and reading one object completely."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..digest import sha256_of
from ..errors import StorageError
from .client.explained import Garbled
from .client.store import Store, base64_of
from .manifest import Entry
from .place import Place
from .progress import Meter
from .workers import Workers, first_error

MARK: Final = {"made-by": "dpo-launcher"}  # metadata of each object that this launcher uploaded
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_NOT_STORED: Final = "the object differs from what was stored"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Object:
    """An object of a listing; ``etag`` without quotes."""

    key: str
    size: int
    etag: str


def objects_below(store: Store, place: Place) -> Iterator[tuple[str, Object]]:
    """(name below the place, object), sorted by key, without folder markers."""
    markers = {"ContinuationToken": "NextContinuationToken"}
    for page in store.pages("list_objects_v2", markers, Prefix=place.below):
        for found in page.get("Contents", ()):
            if not found["Key"].endswith("/"):
                key = found["Key"]
                yield key.removeprefix(place.below), Object(key, int(found["Size"]), found["ETag"].strip('"'))


def read_object(store: Store, key: str) -> tuple[bytes, str]:
    """(contents, ETag) of a small object."""

    def once() -> tuple[bytes, str]:
        answer = store.client.get_object(Bucket=store.bucket, Key=key)
        return answer["Body"].read(), str(answer["ETag"]).strip('"')

    return store.patiently(once)


def receive(store: Store, found: Object, path: Path, workers: Workers, meter: Meter, entry: Entry | None) -> bool:
    """Writes the object to ``path``, several parts at a time, and compares it.

    It is compared with the SHA-256 of the manifest's ``entry`` or of the server, else with its ETag if that is an MD5. An object
    that differs is read a second time. Returns whether this launcher uploaded the object. Raises StorageError if it differs
    again, or has changed since it was listed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    head = _receive_parts(store, found, path, workers, meter)
    try:
        _compare(store, found, path, head, entry)
    except Garbled:
        path.unlink()
        meter.add(-found.size)
        head = _receive_parts(store, found, path, workers, meter)
        _compare(store, found, path, head, entry)
    return bool(head.get("Metadata", {}).get("made-by") == MARK["made-by"])


def _receive_parts(store: Store, found: Object, path: Path, workers: Workers, meter: Meter) -> dict[str, Any]:
    """The server's answer without the contents."""
    part = store.effort.part
    with path.open("xb") as file:
        file.truncate(found.size)
        parts: list[Future[dict[str, Any]]] = []
        try:
            for start in range(0, max(1, found.size), part):
                length = min(part, found.size - start)
                parts.append(workers.submit(_receive_part, store, found, file.fileno(), start, length, meter))
        finally:
            first_error(list(parts))  # no thread writes to a file that is closed
    return parts[0].result()


def _receive_part(store: Store, found: Object, handle: int, start: int, length: int, meter: Meter) -> dict[str, Any]:
    from botocore.exceptions import ClientError, FlexibleChecksumError

    whole = length == found.size
    span = {} if whole else {"Range": f"bytes={start}-{start + length - 1}"}

    def once() -> dict[str, Any]:
        answer = store.client.get_object(Bucket=store.bucket, Key=found.key, IfMatch=found.etag, ChecksumMode="ENABLED", **span)
        if answer["ETag"].strip('"') != found.etag:
            raise StorageError(_changed(store, found))
        if answer["ContentLength"] != length:
            raise Garbled(f"s3://{store.bucket}/{found.key}: expected {length} bytes, found {answer['ContentLength']}")
        body = answer.pop("Body")
        done = 0
        try:
            while chunk := body.read(_CHUNK):
                done += os.pwrite(handle, chunk, start + done)
        except FlexibleChecksumError as error:
            raise Garbled(f"s3://{store.bucket}/{found.key}: {error}: {_NOT_STORED}") from error
        if done != length:
            raise Garbled(f"s3://{store.bucket}/{found.key}: expected {length} bytes, found {done}")
        return dict(answer)

    try:
        answer = store.patiently(once)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (404, 412):
            raise StorageError(_changed(store, found)) from error
        raise
    meter.add(length)
    return answer


def _compare(store: Store, found: Object, path: Path, head: dict[str, Any], entry: Entry | None) -> None:
    """Raises Garbled if the file is not the object."""
    kept = str(head.get("ChecksumSHA256") or "")
    if entry is not None:
        what, expected, arrived = "SHA-256", entry.sha256, sha256_of(path)
    elif kept and "-" not in kept and head.get("ChecksumType") != "COMPOSITE":
        what, expected, arrived = "SHA-256", kept, base64_of(bytes.fromhex(sha256_of(path)))
    elif _MD5.fullmatch(found.etag) and head.get("ServerSideEncryption") in (None, "AES256"):
        what, expected, arrived = "MD5", found.etag, _md5_of(path)
    else:
        return  # the server has no checksum: only the length is checked
    if expected != arrived:
        raise Garbled(f"s3://{store.bucket}/{found.key}: expected {what} {expected}, found {arrived}: {_NOT_STORED}")


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _changed(store: Store, found: Object) -> str:
    return f"s3://{store.bucket}/{found.key}: the object changed or was deleted while it was read; retry"
