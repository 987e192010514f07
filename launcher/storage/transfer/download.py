"""download_folder: downloads what an upload's manifest names and compares it with the hashes; completely or not at all.

Files are collected in a folder beside the target. After a failed attempt complete files stay in it: the next attempt compares
them with the manifest and reads only what is missing or differs.

.<target>.download/arriving/<n>    not compared yet
.<target>.download/whole/<name>    equal to the manifest; becomes the target
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...digest import sha256_of
from ...errors import StorageError, UsageError
from ...experiment.schema import StorageConfig
from ...runs.whole import sync_tree
from ..client.explained import endpoint_of, explained, no_address
from ..client.store import EFFORT, Effort, Store
from ..inventory import Inventory, inventory, unfinished
from ..manifest import Entry
from ..objects import receive
from ..place import Place
from ..progress import Listener, Meter
from ..workers import Workers


@dataclass(frozen=True)
class Downloaded:
    """``was_there``: the folder was complete already; only the manifest was read."""

    folder: Path
    files: int
    bytes: int
    was_there: bool


def download_folder(
    uri: str,
    target: Path,
    *,
    storage: StorageConfig | None,
    env: Mapping[str, str],
    effort: Effort = EFFORT,
    listener: Listener | None = None,
) -> Downloaded:
    """Writes what the manifest at ``uri`` names into the new folder ``target``; of ``storage`` only endpoint and region count.

    Downloads resume: complete files of an earlier attempt are not read again.

    Raises UsageError if ``target`` exists with other contents or another process writes it, ExperimentError if the bucket is
    missing or empty, CredentialError, UnreachableError for a server that does not answer, and StorageError for an unfinished
    upload and an object that differs from what was sent.
    """
    place = Place.parse(uri)
    endpoint = endpoint_of(storage, env)
    purpose = "list and read (s3:ListBucket, s3:GetObject)"
    with explained(place.bucket, endpoint, purpose=purpose, failure=StorageError, where=uri):
        try:
            store = Store.open(place.bucket, storage, env, effort)
        except ValueError as error:
            raise no_address(endpoint, StorageError) from error
        found = inventory(store, place)
        if found.entries is None:
            raise StorageError(unfinished(place, found.objects))
        size = sum(one.size for one in found.objects.values())
        if target.exists() and not _is_empty(target):
            _check_same(target, found)
            return Downloaded(target, len(found.objects), size, was_there=True)
        if target.resolve() == Path.cwd():
            raise UsageError(f"{target} is the working directory; choose a new folder with --to")
        with _aside(target) as aside, Meter(size, listener) as meter:
            _receive_all(store, found, aside, meter)
            sync_tree(aside / "whole")
            (aside / "whole").rename(target)  # also over an empty folder
            shutil.rmtree(aside)
        return Downloaded(target, len(found.objects), size, was_there=False)


def _receive_all(store: Store, found: Inventory, aside: Path, meter: Meter) -> None:
    assert found.entries is not None, "the caller has looked"
    arriving, whole = aside / "arriving", aside / "whole"
    kept = _kept(whole, found.entries)
    with Workers(store.effort.threads, store.closing) as workers:
        for number, (name, one) in enumerate(found.objects.items()):
            if name in kept:
                meter.add(one.size, kept=True)
                continue
            arrived, file = arriving / str(number), whole / name
            receive(store, one, arrived, workers, meter, found.entries[name])
            file.parent.mkdir(parents=True, exist_ok=True)
            arrived.rename(file)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """The download folder beside ``target``, for one process at a time; after a failure complete files stay in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.download")
    aside.mkdir(exist_ok=True)
    handle = os.open(aside, os.O_RDONLY)
    try:
        _lock(handle, target)
        shutil.rmtree(aside / "arriving", ignore_errors=True)
        (aside / "whole").mkdir(parents=True, exist_ok=True)  # another process may have removed both
        try:
            yield aside
        finally:
            shutil.rmtree(aside / "arriving", ignore_errors=True)
            for folder in (aside / "whole", aside):
                with suppress(OSError):  # it is not empty, or has become the target
                    folder.rmdir()
    finally:
        os.close(handle)


def _lock(handle: int, target: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another download to {target} is running; wait for it, or choose another folder with --to") from None
    except OSError:
        pass  # a file system without locks


def _kept(folder: Path, entries: Mapping[str, Entry]) -> set[str]:
    """Names of an earlier attempt's files that match the manifest; removes everything else from ``folder``."""
    kept = set()
    for path in sorted(folder.rglob("*"), reverse=True):  # a folder's files before the folder
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # it is not empty
                path.rmdir()
        elif name in entries and not path.is_symlink() and _is_same(path, entries[name]):
            kept.add(name)
        else:
            path.unlink()
    return kept


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _check_same(target: Path, found: Inventory) -> None:
    """Raises UsageError unless the folder holds exactly what would be downloaded."""
    assert found.entries is not None, "the caller has looked"
    there = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    different = sorted(there.keys() ^ found.objects.keys()) or [
        name for name, path in there.items() if not _is_same(path, found.entries[name])
    ]
    if different or not target.is_dir():
        what = f": {different[0]} differs" if different else ""
        raise UsageError(f"{target} exists with other contents{what}; choose a new folder with --to")


def _is_same(path: Path, entry: Entry) -> bool:
    return path.stat().st_size == entry.size and sha256_of(path) == entry.sha256
