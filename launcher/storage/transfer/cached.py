"""The cache of objects from buckets: contents by SHA-256, the SHA-256 of each ETag, folders of links.

s3/blobs/<sha256>           contents, verified before they got that name
s3/etags/<hash>             bucket, key and ETag -> SHA-256, size
s3/folders/<hash>/          the files of one state of a folder, by their names: relative links to blobs
s3/aside/<process>/         files that are not verified yet; a lock shows that their process is alive
s3/places/<hash>.json       what was last read from a place; its reader holds the .lock beside it
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ...runs.whole import write_whole

_LEFT: Final = 3600.0  # seconds


@dataclass(frozen=True)
class Blob:
    """``is_ours``: this launcher uploaded the object, so a manifest must name it."""

    sha256: str
    size: int
    is_ours: bool = False


@dataclass(frozen=True)
class Cache:
    """``root`` is the folder ``s3``. Processes of one machine, or of several that share the folder, may use it at once."""

    root: Path

    def path(self, blob: Blob) -> Path:
        return self.root / "blobs" / blob.sha256

    def has(self, blob: Blob) -> bool:
        with suppress(OSError):
            return self.path(blob).stat().st_size == blob.size
        return False

    def known(self, *object_: str) -> Blob | None:
        """The cached contents of an object (server, bucket, key, ETag)."""
        try:
            note = json.loads((self.root / "etags" / _hash(*object_)).read_text(encoding="utf-8"))
            blob = Blob(str(note["sha256"]), int(note["size"]), bool(note["is_ours"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # never read, or damaged
        return blob if self.has(blob) else None

    def keep(self, aside: Path, blob: Blob, *object_: str) -> None:
        """Stores a verified file under its hash; a file that another process stored first stays."""
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        target = self.path(blob)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.has(blob):
            aside.unlink()
        else:
            aside.replace(target)
        note = self.root / "etags" / _hash(*object_)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps(asdict(blob)))

    @contextmanager
    def aside(self) -> Iterator[Path]:
        """This process's folder for unverified files; removes leftovers of killed processes."""
        self._remove_left()
        folder = self.root / "aside" / f"{os.getpid()}-{os.urandom(4).hex()}"
        folder.mkdir(parents=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(handle)
            shutil.rmtree(folder, ignore_errors=True)

    def _remove_left(self) -> None:
        """Removes unlocked folders that are an hour old: each may be half a model."""
        for folder in (self.root / "aside").glob("*"):
            with suppress(OSError):  # locked, removed by another process, or a file system without locks
                if time.time() - folder.stat().st_mtime < _LEFT:
                    continue
                handle = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(handle)

    def folder(self, blobs: Mapping[str, Blob]) -> Path:
        """A folder with these files by name; the same files have the same folder."""
        folder = self.root / "folders" / _hash(*(part for name in sorted(blobs) for part in (name, blobs[name].sha256)))
        if folder.is_dir() and all((folder / name).exists() for name in blobs):
            return folder
        with self.aside() as aside:
            made = aside / "folder"
            made.mkdir()
            for name, blob in blobs.items():
                link = made / name
                link.parent.mkdir(parents=True, exist_ok=True)
                # From the folder's final place; one level up for each part of the name, and one for the folder itself.
                up = "/".join([".."] * (len(Path(name).parts) + 1))
                link.symlink_to(f"{up}/blobs/{blob.sha256}")
            folder.parent.mkdir(exist_ok=True)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process has made it of the same files
                    raise
        return folder

    @contextmanager
    def locked(self, *place: str) -> Iterator[None]:
        """Lets one process at a time read a place; the others wait and then find it in the cache."""
        lock = self.root / "places" / f"{_hash(*place)}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("ab") as file:
            with suppress(OSError):  # a file system without locks: then several read, and all of them the same
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def remember(self, place: tuple[str, ...], folder: Path, blobs: Mapping[str, Blob]) -> None:
        read = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        note = {"place": place, "folder": folder.name, "objects": len(blobs), "read": read}
        write_whole(self.root / "places" / f"{_hash(*place)}.json", json.dumps(note))

    def remembered(self, *place: str) -> str | None:
        """What the cache has from a place, as a sentence, or None."""
        try:
            note: dict[str, Any] = json.loads((self.root / "places" / f"{_hash(*place)}.json").read_text(encoding="utf-8"))
            folder = self.root / "folders" / str(note["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not folder.is_dir():
            return None
        count = f"{note['objects']} object{'s' * (note['objects'] != 1)}"
        return f"{folder} holds the state of {note['read']} ({count}); use this path instead"


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]
