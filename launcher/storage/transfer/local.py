"""The files of a folder to upload: names, parts and hashes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import UploadError
from ..manifest import MANIFEST, Entry

MOST_PARTS: Final = 10_000  # of one object, on S3
_WAITING: Final = 8  # parts that are sent and not hashed yet: the hashing thread may lag on a busy machine


@dataclass(frozen=True)
class Digests:
    """SHA-256 of a whole file, and of each of its parts."""

    whole: bytes
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> Digests:
        with Hashed(parts) as hashed:
            each = tuple(hashlib.sha256(part).digest() for part in hashed)
            return cls(hashed.digest(), each)

    @property
    def composite(self) -> bytes:
        """S3's checksum: for an object in parts the hash of their hashes, which no other tool prints."""
        return self.whole if len(self.parts) == 1 else hashlib.sha256(b"".join(self.parts)).digest()


class Hashed:
    """Passes parts on while a thread hashes them: no byte is read twice, and the hash is that of the sent bytes.

    A few parts may wait in memory.
    """

    def __init__(self, parts: Iterable[bytes]):
        self._parts = parts
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sha256")

    def __enter__(self) -> Hashed:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def __iter__(self) -> Iterator[bytes]:
        waiting: deque[Future[None]] = deque()
        for part in self._parts:
            if len(waiting) == _WAITING:
                waiting.popleft().result()
            waiting.append(self._thread.submit(self._sha256.update, part))
            yield part

    def digest(self) -> bytes:
        """SHA-256 of all parts that were passed on."""
        self._thread.shutdown()
        return self._sha256.digest()


@dataclass(frozen=True)
class LocalFile:
    """``part``: bytes of each part but the last; the same file has the same parts in every attempt."""

    name: str
    path: Path
    size: int
    part: int

    @classmethod
    def of(cls, name: str, path: Path, part: int) -> LocalFile:
        size = path.stat().st_size
        while part * MOST_PARTS < size:
            part *= 2
        return cls(name, path, size, part)

    @property
    def is_large(self) -> bool:
        """Whether it is uploaded in parts."""
        return self.size > self.part

    def parts(self) -> Iterator[bytes]:
        """The contents part by part, one empty part for an empty file; raises UploadError if the size changes meanwhile."""
        left = self.size
        with self.path.open("rb") as file:
            while True:
                data = file.read(min(self.part, left))
                left -= len(data)
                if len(data) < min(self.part, left + len(data)) or (not left and file.read(1)):
                    raise UploadError(f"{self.path} changed while it was uploaded; retry when nothing writes to it")
                yield data
                if not left:
                    return

    def digests(self) -> Digests:
        return Digests.of(self.parts())

    def etag(self) -> str:
        """The ETag of this file in these parts on a store whose ETags are MD5."""
        parts = [hashlib.md5(data, usedforsecurity=False).digest() for data in self.parts()]
        if not self.is_large:
            return parts[0].hex()
        return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"

    def entry(self, digests: Digests) -> Entry:
        return Entry(self.name, self.size, digests.whole.hex())


def files_below(folder: Path, part: int, names: Container[str] | None = None) -> list[LocalFile]:
    """Sorted by name, all or those of ``names``; a link counts as the file inside the folder that it names.

    Raises UploadError for a link out of the folder, an empty folder, and a file with the manifest's name.
    """
    if not folder.is_dir():
        raise UploadError(f"folder {folder} not found")
    inside, found = folder.resolve(), {}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if names is not None and name not in names:
            continue
        if not path.is_file() or not path.resolve().is_relative_to(inside):
            kind = f"a link to {path.readlink()}" if path.is_symlink() else "neither a file nor a folder"
            raise UploadError(f"{folder}: {name} is {kind}, expected files inside the folder; nothing was uploaded")
        found[name] = path
    if not found:
        raise UploadError(f"folder {folder} is empty")
    if MANIFEST in found:
        raise UploadError(
            f"{folder} has a file {MANIFEST}; the upload needs this name for its own list. Rename the file; nothing was uploaded"
        )
    return [LocalFile.of(name, path, part) for name, path in sorted(found.items())]


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below except real folders; links to folders are not entered."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry
