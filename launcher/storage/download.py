"""download_folder: what an upload's manifest names comes down, compared with its hashes, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError, UsageError
from ..experiment import StorageConfig
from ..run_dir import sync_tree
from .client import EFFORT, Effort, Store
from .explained import endpoint_of, explained, no_address
from .inventory import Inventory, inventory, unfinished
from .manifest import Entry
from .objects import receive, sha256_of
from .place import Place
from .progress import Listener, Meter
from .workers import Workers


@dataclass(frozen=True)
class Downloaded:
    """``was_there``: the folder had these files already, and nothing was read but the list."""

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
    """Writes what the manifest at ``uri`` names into the new folder ``target``; of ``storage`` count endpoint and region alone.

    Raises UsageError where ``target`` is there with other contents, ExperimentError where there is no such bucket or nothing in
    it, CredentialError, and StorageError for an upload that is not finished, an object that is not what was sent, and what the
    server or the network does.
    """
    place = Place.parse(uri)
    endpoint = endpoint_of(storage, env)
    purpose = "list and read there (s3:ListBucket, s3:GetObject)"
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
        with _aside(target) as aside:
            _receive_all(store, found, aside, Meter(size, listener))
        return Downloaded(target, len(found.objects), size, was_there=False)


def _receive_all(store: Store, found: Inventory, aside: Path, meter: Meter) -> None:
    assert found.entries is not None, "the caller has looked"
    with Workers(store.effort.threads, store.closing) as workers:
        for name, one in found.objects.items():
            receive(store, one, aside / name, workers, meter, found.entries[name])


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that becomes it at the end, or is gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    aside.mkdir()
    try:
        yield aside
        sync_tree(aside)
        aside.rename(target)  # also over an empty folder
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _check_same(target: Path, found: Inventory) -> None:
    """Raises UsageError where the folder holds anything else than what would be read into it."""
    assert found.entries is not None, "the caller has looked"
    there = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    different = sorted(there.keys() ^ found.objects.keys()) or [
        name for name, path in there.items() if not _is_same(path, found.entries[name])
    ]
    if different or not target.is_dir():
        what = f": {different[0]} differs" if different else ""
        raise UsageError(f"{target} is there already, and is something else{what}; name another folder with --to")


def _is_same(path: Path, entry: Entry) -> bool:
    return path.stat().st_size == entry.size and sha256_of(path) == entry.sha256
