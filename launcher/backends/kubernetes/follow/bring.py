"""Copying a run's folder from its claim through the reader: completely and with equal hashes, or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ....digest import sha256_of
from ....errors import LauncherError, UsageError
from ....runs.whole import sync_tree
from ..api.cluster import ClusterError
from .archive import Archive

_TRIES: Final = 3  # of a copy whose connection breaks
_WITHOUT: Final = "./checkpoint-*"  # not copied with a whole run
Told = Callable[[int, int], None]


class NotThere(UsageError):
    """The run does not have this folder."""


def bring(archive: Archive, folder: PurePosixPath, target: Path, told: Told) -> tuple[int, int, bool]:
    """Copies all files below ``folder`` on the claim, except checkpoints, to the new folder ``target``.

    Returns (files, bytes, whether ``target`` already held them). ``told``: bytes so far, bytes in all. Raises NotThere if
    ``folder`` is missing, UsageError if ``target`` holds something else, LauncherError if the copy differs from the original.
    """
    if (copied := archive.copied(target.with_name(f".{target.name}.{os.getpid()}"))) is not None:
        return _placed(copied, target)
    wanted = hashes(archive, folder)
    if target.exists():
        if not target.is_dir() or hashes_here(target) != wanted:
            raise UsageError(f"{target} exists with other contents; choose a new folder with --to")
        return len(wanted), _size(target), True
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _received(archive, folder, aside, told)
        found = hashes_here(aside)
        if found != wanted:
            wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            raise LauncherError(
                f"{folder}: the copy of {', '.join(wrong[:5])} differs; is the run still writing? Retry after its end"
            )
        sync_tree(aside)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return len(wanted), _size(target), False


def _placed(aside: Path, target: Path) -> tuple[int, int, bool]:
    """Gives a complete folder its name; returns and raises as ``bring``."""
    wanted = hashes_here(aside)
    try:
        if target.exists() and (not target.is_dir() or hashes_here(target) != wanted):
            raise UsageError(f"{target} exists with other contents; choose a new folder with --to")
        if target.exists():
            return len(wanted), _size(target), True
        sync_tree(aside)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return len(wanted), _size(target), False


def hashes(archive: Archive, folder: PurePosixPath) -> dict[str, str]:
    """Path below ``folder`` on the claim -> SHA-256, without checkpoints; raises NotThere."""
    # A file that a run removes meanwhile makes find exit with 1: the copy shows whether that matters.
    listed = 'find . -path "./checkpoint-*" -prune -o -type f -exec sha256sum -z {} +'
    command = f'cd "$1" || exit 2; {listed} || :'
    said = archive.output(["sh", "-c", command, "sh", str(folder)])
    if not said:
        raise NotThere(f"{folder} not found on the claim")
    lines = [line.partition("  ") for line in said.decode("utf-8", "surrogateescape").split("\0") if line]
    return {name.removeprefix("./"): digest for digest, _, name in lines}


def hashes_here(folder: Path) -> dict[str, str]:
    """The same for a folder on this machine."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _received(archive: Archive, folder: PurePosixPath, aside: Path, told: Told) -> None:
    size = int((archive.output(["du", "-sb", f"--exclude={_WITHOUT}", str(folder)]) or b"0").split()[0])
    for attempt in range(1, _TRIES + 1):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            pieces = archive.stream(["tar", "-C", str(folder), f"--exclude={_WITHOUT}", "-cf", "-", "."])
            file: Any = _Pieces(pieces, lambda done: told(min(done, size), size))
            with tarfile.open(fileobj=file, mode="r|") as tar:
                tar.extractall(aside, filter="data")
            return
        except (ClusterError, tarfile.ReadError) as error:
            if attempt == _TRIES:
                raise LauncherError(f"{folder}: the connection broke {_TRIES} times: {error}") from error


class _Pieces:
    """Pieces of bytes as a file to read from; ``told`` is called with the number of bytes read."""

    def __init__(self, pieces: Iterator[bytes], told: Callable[[int], None]):
        self._pieces, self._told, self._rest, self._done = pieces, told, b"", 0

    def read(self, size: int) -> bytes:
        parts, count = [self._rest], len(self._rest)
        while count < size and (piece := next(self._pieces, b"")):
            parts.append(piece)
            count += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        self._done += len(data[:size])
        self._told(self._done)
        return data[:size]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
