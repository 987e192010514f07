"""Writes files and folders atomically: beside their place, synced, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Writes a file atomically: beside ``path``, then renamed. A reader sees the old content or the new.

    Parts of a large text are written as they are made.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with aside.open("xb") as file:
            if isinstance(content, str | bytes):
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
            else:
                file.writelines(part.encode("utf-8") for part in content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def as_new(folder: Path) -> None:
    """Gives the weights in ``folder`` the permissions of any new file: safetensors makes them readable only by their owner.

    A colleague, or a server under another uid, reads them as it reads the other files there.
    """
    mask = os.umask(0o077)
    os.umask(mask)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def sync_tree(folder: Path) -> None:
    """Syncs all of ``folder`` to the disk, so that it is complete after a rename and a power cut."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_file() or path.is_dir():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
