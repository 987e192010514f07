"""A large file in parts. Uploads resume: the server lists the parts that it has.

They are compared with the file's parts, hash by hash, so that an unfinished upload of other contents is never completed by
mistake: its parts are replaced. Other unfinished uploads are aborted, because stores keep, and charge for, invisible parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ..client.explained import code_of, is_refused, refusal, status_of
from ..client.store import Store, base64_of, refuses_checksums
from ..objects import MARK
from ..place import Place
from ..progress import Meter
from ..workers import Workers, first_error
from .local import Digests, Hashed, LocalFile


@dataclass(frozen=True)
class Part:
    """A part in the server's list; ``sha256`` in base64, None if the server has none."""

    size: int
    etag: str
    sha256: str | None

    def holds(self, data: bytes, sha256: bytes) -> bool:
        if self.size != len(data):
            return False
        if self.sha256 is not None:
            return self.sha256 == base64_of(sha256)
        return self.etag == hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Pending:
    """An unfinished upload; ``keeps_sha256``: its completion names the parts' hashes."""

    key: str
    id: str
    parts: Mapping[int, Part]
    keeps_sha256: bool


def pending_below(store: Store, place: Place) -> dict[str, list[Pending]]:
    """Every unfinished upload below ``place`` by key; empty if the server cannot list them, or the credentials may not."""
    from botocore.exceptions import ClientError

    found: dict[str, list[Pending]] = {}
    markers = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
    try:
        for page in store.pages("list_multipart_uploads", markers, Prefix=place.below):
            for one in page.get("Uploads", ()):
                parts, keeps = _parts(store, one["Key"], one["UploadId"])
                keeps = keeps or one.get("ChecksumAlgorithm") == "SHA256"
                found.setdefault(one["Key"], []).append(Pending(one["Key"], one["UploadId"], parts, keeps))
    except ClientError as error:
        if status_of(error) not in (405, 501) and not is_refused(error):  # all parts are sent again then
            raise
    return found


def _parts(store: Store, key: str, upload: str) -> tuple[dict[int, Part], bool]:
    from botocore.exceptions import ClientError

    parts: dict[int, Part] = {}
    keeps = False
    try:
        for page in store.pages("list_parts", {"PartNumberMarker": "NextPartNumberMarker"}, Key=key, UploadId=upload):
            keeps = keeps or page.get("ChecksumAlgorithm") == "SHA256"
            for one in page.get("Parts", ()):
                parts[int(one["PartNumber"])] = Part(int(one["Size"]), one["ETag"].strip('"'), one.get("ChecksumSHA256"))
    except ClientError as error:
        if code_of(error) != "NoSuchUpload" and not is_refused(error):  # it ended between the two listings
            raise
    return parts, keeps


def abort(store: Store, pending: Iterable[Pending]) -> None:
    """Removes unfinished uploads. Where the credentials may not, that is a notice: the upload itself does not need it."""
    from botocore.exceptions import ClientError

    for one in pending:
        try:
            store.call("abort_multipart_upload", Key=one.key, UploadId=one.id)
        except ClientError as error:
            if is_refused(error):
                store.notices.append(f"{store.target}: parts of an unfinished upload stay there: {refusal(error)}")
            elif code_of(error) != "NoSuchUpload":
                raise


def send_in_parts(store: Store, file: LocalFile, key: str, pending: Iterable[Pending], workers: Workers, meter: Meter) -> Digests:
    """Sends the parts of ``file`` that the server lacks and completes the object; returns the hashes of what was read."""
    upload = _taken_up(store, file, pending) or _begun(store, key)
    sent: list[Future[tuple[bytes, dict[str, Any]]]] = []
    with Hashed(file.parts()) as hashed:
        try:
            for number, data in enumerate(hashed, 1):
                sent.append(workers.submit(_send_part, store, upload, number, data, meter))
        finally:
            first_error(list(sent))
        results = [future.result() for future in sent]
        _complete(store, upload, [named for _, named in results])
        return Digests(hashed.digest(), tuple(sha256 for sha256, _ in results))


def _taken_up(store: Store, file: LocalFile, pending: Iterable[Pending]) -> Pending | None:
    """The unfinished upload with most of the file's parts, by size; all others are aborted."""
    sizes = {number: min(file.part, file.size - start) for number, start in enumerate(range(0, file.size, file.part), 1)}
    ranked = sorted(pending, key=lambda one: sum(sizes.get(number) == part.size for number, part in one.parts.items()))
    best = ranked.pop() if ranked and ranked[-1].parts else None
    abort(store, ranked)
    if best is not None and not best.keeps_sha256:
        store.takes_sha256 = False  # a part with a checksum does not fit into an upload without
    return best


def _begun(store: Store, key: str) -> Pending:
    from botocore.exceptions import ClientError

    arguments: dict[str, Any] = {"Key": key, "Metadata": MARK}
    answer: dict[str, Any] | None = None
    if store.takes_sha256:
        try:
            answer = store.call("create_multipart_upload", ChecksumAlgorithm="SHA256", **arguments)
        except ClientError as error:
            if not refuses_checksums(error):
                raise
    if answer is None:
        answer = store.call("create_multipart_upload", **arguments)
    store.takes_sha256 = answer.get("ChecksumAlgorithm") == "SHA256"
    return Pending(key, answer["UploadId"], {}, store.takes_sha256)


def _send_part(store: Store, upload: Pending, number: int, data: bytes, meter: Meter) -> tuple[bytes, dict[str, Any]]:
    sha256 = hashlib.sha256(data).digest()
    there = upload.parts.get(number)
    is_there = there is not None and there.holds(data, sha256)
    if there is not None and is_there:
        etag = there.etag
    else:
        where = {"Key": upload.key, "UploadId": upload.id, "PartNumber": number}
        answer = store.send("upload_part", data, sha256, **where)
        etag = answer["ETag"]
    meter.add(len(data), kept=is_there)
    named = {"PartNumber": number, "ETag": etag}
    return sha256, {**named, "ChecksumSHA256": base64_of(sha256)} if upload.keeps_sha256 else named


def _complete(store: Store, upload: Pending, parts: list[dict[str, Any]]) -> None:
    from botocore.exceptions import ClientError

    try:
        store.call("complete_multipart_upload", Key=upload.key, UploadId=upload.id, MultipartUpload={"Parts": parts})
    except ClientError as error:
        # The answer to an earlier try was lost; whether it succeeded shows the object, which is checked next.
        if code_of(error) != "NoSuchUpload":
            raise
