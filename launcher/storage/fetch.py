"""fetch_folder: the objects below ``s3://…`` as a local folder, each read once for an ETag and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExperimentError, LauncherError, Mistake, StorageError
from ..experiment import StorageConfig
from .cached import Blob, Cache
from .client import EFFORT, Effort, Store
from .explained import endpoint_of, explained, no_address, shown_endpoint
from .manifest import MANIFEST, Manifest, check_name
from .objects import Object, objects_below, read_object, receive
from .place import Place
from .progress import Listener, Meter
from .workers import Workers

_PURPOSE = "list and read there (s3:ListBucket, s3:GetObject)"


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
    """A folder below ``cache/s3`` with the objects below ``uri``, or only ``names`` of them; a name that is not there is absent.

    The bucket is asked each time what there is, and only contents that are not in the cache are read. They are compared with the
    manifest's SHA-256 where an upload of this launcher lies there, else with what the server keeps. Of ``storage`` count endpoint
    and region alone. The path is the same for the same contents, and never changes what it holds.

    Raises ExperimentError where there is no such bucket or nothing below ``uri``, CredentialError, and StorageError for what the
    server or the network does, an upload that is not finished, and an object that is not what was stored.
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
                wanted = _wanted(store, place, chosen)
                blobs = _blobs(store, place, wanted, known, where[0], listener)
                folder = known.folder(blobs)
                known.remember(where, folder, blobs)
                return folder
    except StorageError as error:
        raise _with_cached(error, known.remembered(*where)) from error


def _with_cached(error: LauncherError, cached: str | None) -> StorageError:
    return StorageError(f"{error}" + (f"\n    cached:   {cached}" if cached else ""))


@dataclass(frozen=True)
class _Wanted:
    """``hashes``: SHA-256 by name, None where no manifest of ours says them."""

    objects: Mapping[str, Object]
    hashes: Mapping[str, str] | None


def _wanted(store: Store, place: Place, names: frozenset[str] | None) -> _Wanted:
    found = dict(objects_below(store, place))
    if not found:
        raise _nothing(store, place)
    manifest = None
    if MANIFEST in found:
        where = f"{place.uri}/{MANIFEST}"
        manifest = Manifest.parse(read_object(store, found[MANIFEST].key)[0], where)
    if manifest is not None:
        for entry in manifest.files:
            there = found.get(entry.name)
            if there is None or there.size != entry.size:
                what = "is not there" if there is None else f"has {there.size} bytes"
                raise StorageError(f"{place.uri}: {entry.name} {what}, expected {entry.size} bytes: {MANIFEST} names it")
        hashes = {entry.name: entry.sha256 for entry in manifest.files if names is None or entry.name in names}
        return _Wanted({name: found[name] for name in hashes}, hashes)
    chosen = {name: one for name, one in found.items() if names is None or name in names}
    _check_names(place, chosen)
    return _Wanted(chosen, None)


def _nothing(store: Store, place: Place) -> ExperimentError:
    hint = None
    if place.prefix:
        near = store.call("list_objects_v2", Prefix=place.prefix, MaxKeys=1).get("Contents", ())
        if near and near[0]["Key"] == place.prefix:
            hint = f"it is an object: name its folder, {place.uri.rpartition('/')[0]}"
        elif near:
            hint = f"the nearest key is {near[0]['Key']}"
    return ExperimentError(Mistake(place.uri, f"nothing lies there in {store.target}", "a folder with objects", "none", hint))


def _check_names(place: Place, found: Mapping[str, Object]) -> None:
    """Raises StorageError where keys cannot be files of one folder: S3 has no folders, and allows more than a disk."""
    for name in found:
        try:
            check_name(name)
        except ValueError as error:
            raise StorageError(f"{place.uri}: the key {found[name].key!r} cannot be a file of a folder") from error
        above = next((str(parent) for parent in Path(name).parents if str(parent) in found), None)
        if above is not None:
            raise StorageError(f"{place.uri}: {above} is an object and the folder of {name}: a disk cannot hold both")


def _blobs(store: Store, place: Place, wanted: _Wanted, known: Cache, server: str, listener: Listener | None) -> dict[str, Blob]:
    """The contents of every wanted object, which are in the cache then."""
    meter = Meter(sum(one.size for one in wanted.objects.values()), listener)
    blobs: dict[str, Blob] = {}
    with known.aside() as aside, Workers(store.effort.threads, store.closing) as workers:
        for number, (name, one) in enumerate(wanted.objects.items()):
            about = (server, store.bucket, one.key, one.etag)
            expected = wanted.hashes[name] if wanted.hashes is not None else None
            blob = known.known(*about)
            if blob is None or expected not in (None, blob.sha256):
                path = aside / str(number)
                received = receive(store, one, path, workers, meter, expected)
                blob = Blob(received.sha256, one.size, received.is_ours)
                known.keep(path, blob, *about)
            else:
                meter.add(one.size, kept=True)
            if blob.is_ours and wanted.hashes is None:
                raise StorageError(_unfinished(place, wanted.objects))
            blobs[name] = blob
    return blobs


def _unfinished(place: Place, found: Iterable[str]) -> str:
    below = sorted(name.removesuffix(f"/{MANIFEST}") for name in found if name.endswith(f"/{MANIFEST}"))
    if below:
        return f"{place.uri}: uploads lie below it, expected one: name {place.uri}/{below[-1]}, for example"
    return f"{place.uri}: the upload there is not finished, it has no {MANIFEST}: `launcher upload RUN` finishes it"
