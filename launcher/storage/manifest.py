"""Manifest: the object that is written last and lists all files of an upload with sizes and SHA-256."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from ..errors import StorageError

MANIFEST: Final = "manifest.json"
MAKER: Final = "dpo-launcher"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class Entry:
    """One object: its name below the manifest's folder, its bytes, and their SHA-256 in hex, as sha256sum prints it."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """``files``: sorted by name."""

    files: tuple[Entry, ...]

    @classmethod
    def of(cls, files: Iterable[Entry]) -> Manifest:
        return cls(tuple(sorted(files)))

    @classmethod
    def parse(cls, body: bytes, where: str) -> Manifest | None:
        """None if another program wrote the file; raises StorageError if it is ours and broken, naming ``where``."""
        try:
            data = json.loads(body)
        except ValueError:
            return None
        if not isinstance(data, dict) or data.get("made_by") != MAKER:
            return None
        files = data.get("files")
        try:
            found = cls.of(_entry(one) for one in files if check_name(one["name"])) if isinstance(files, list) else None
        except (TypeError, KeyError, ValueError):
            found = None
        if found is None or len({entry.name for entry in found.files}) != len(found.files) or not found.files:
            raise StorageError(
                f"{where}: expected a list of files with name, size and sha256; the manifest is damaged, upload again"
            )
        return found

    def text(self) -> str:
        data = {"made_by": MAKER, "files": [asdict(entry) for entry in self.files]}
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.files)


def check_name(name: str) -> str:
    """``name``, if it stays below its folder; raises ValueError otherwise."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or "/".join(parts) != name:
        raise ValueError(f"{name!r} names no file below a folder")
    return name


def _entry(one: dict[str, Any]) -> Entry:
    name, size, sha256 = one["name"], one["size"], one["sha256"]
    if not isinstance(size, int) or size < 0 or not _SHA256.fullmatch(sha256):
        raise ValueError(f"{name!r} has no size or no SHA-256")
    return Entry(name, size, sha256)
