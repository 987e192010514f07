"""fetch_folder: the objects below ``s3://…`` as a local folder, each read once per ETag and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ...digest import sha256_of
from ...errors import StorageError, UnreachableError
from ...experiment.schema import StorageConfig
from ..client.explained import endpoint_of, explained, no_address, shown_endpoint
from ..client.store import EFFORT, Effort, Store
from ..inventory import Inventory, inventory, unfinished
from ..objects import receive
from ..place import Place
from ..progress import Listener, Meter
from ..workers import Workers
from .cached import Blob, Cache

_PURPOSE = "list and read (s3:ListBucket, s3:GetObject)"


def fetch_folder(
    uri: str,
    *,
    storage: StorageConfig | None,
    env: Mapping[str, str],
    cache: Path,
    names: Iterable[str] | None = None,
    effort: Effort = EFFORT,
    listener: Listener | None = None,
) -> Path:
    """A folder below ``cache/s3`` with the objects below ``uri``, or only those of ``names`` that exist.

    The bucket is listed each time, and only contents that the cache lacks are read. They are compared with the manifest's SHA-256
    of an upload by this launcher, else with the server's checksum. Of ``storage`` only endpoint and region count. The same
    contents have the same path, and its contents never change.

    Raises ExperimentError if the bucket is missing or has nothing below ``uri``, CredentialError, UnreachableError for a server
    that does not answer, and StorageError for an unfinished upload and an object that differs from what was stored.
    """
    place, known = Place.parse(uri), Cache(cache / "s3")
    endpoint = endpoint_of(storage, env)
    chosen = None if names is None else frozenset(names)
    where = (shown_endpoint(endpoint), place.bucket, place.prefix, *sorted(chosen or ()))
    try:
        with explained(place.bucket, endpoint, purpose=_PURPOSE, failure=StorageError, where=uri):
            try:
                store = Store.open(place.bucket, storage, env, effort)
            except ValueError as error:
                raise no_address(endpoint, StorageError) from error
            with known.locked(*where):
                wanted = inventory(store, place, chosen)
                blobs = _blobs(store, place, wanted, known, where[0], listener)
                folder = known.folder(blobs)
                known.remember(where, folder, blobs)
                return folder
    except (StorageError, UnreachableError) as error:
        cached = known.remembered(*where)
        raise type(error)(f"{error}" + (f"\n    cached:   {cached}" if cached else "")) from error


def _blobs(store: Store, place: Place, found: Inventory, known: Cache, server: str, listener: Listener | None) -> dict[str, Blob]:
    """The contents of every object; afterwards the cache has them."""
    blobs: dict[str, Blob] = {}
    size, threads = sum(one.size for one in found.objects.values()), store.effort.threads
    with known.aside() as aside, Meter(size, listener) as meter, Workers(threads, store.closing) as workers:
        for number, (name, one) in enumerate(found.objects.items()):
            about = (server, store.bucket, one.key, one.etag)
            entry = found.entries[name] if found.entries is not None else None
            blob = known.known(*about)
            if blob is None or (entry is not None and blob.sha256 != entry.sha256):
                path = aside / str(number)
                is_ours = receive(store, one, path, workers, meter, entry)
                # `receive` has compared it with the manifest's hash.
                blob = Blob(entry.sha256 if entry is not None else sha256_of(path), one.size, is_ours)
                known.keep(path, blob, *about)
            else:
                meter.add(one.size, kept=True)
            if blob.is_ours and found.entries is None:
                raise StorageError(unfinished(place, found.objects))
            blobs[name] = blob
    return blobs
