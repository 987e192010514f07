"""The objects in a place, and the entries of the manifest if this launcher uploaded them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExperimentError, Mistake, StorageError
from .client.store import Store, is_missing
from .manifest import MANIFEST, Entry, Manifest, check_name
from .objects import Object, objects_below, read_object
from .place import Place


@dataclass(frozen=True)
class Inventory:
    """Objects by name. ``entries``: those of our manifest, None if there is none."""

    objects: Mapping[str, Object]
    entries: Mapping[str, Entry] | None


def inventory(store: Store, place: Place, names: frozenset[str] | None = None) -> Inventory:
    """The objects in ``place``, or only ``names``; if our manifest is among them, only what it names.

    Raises ExperimentError if there are none, StorageError if they differ from the manifest.
    """
    found = dict(objects_below(store, place))
    if not found:
        raise _nothing(store, place)
    manifest = None
    if MANIFEST in found:
        manifest = _read_manifest(store, place)
    if manifest is not None:
        for entry in manifest.files:
            there = found.get(entry.name)
            if there is None or there.size != entry.size:
                what = "is missing" if there is None else f"has {there.size} bytes"
                raise StorageError(f"{place.uri}: {entry.name} {what}, expected {entry.size} bytes ({MANIFEST} lists it)")
        entries = {entry.name: entry for entry in manifest.files if names is None or entry.name in names}
        return Inventory({name: found[name] for name in entries}, entries)
    chosen = {name: one for name, one in found.items() if names is None or name in names}
    _check_names(place, chosen)
    return Inventory(chosen, None)


def _read_manifest(store: Store, place: Place) -> Manifest | None:
    """None if another program wrote it, or if it was just deleted because an upload of other contents started."""
    from botocore.exceptions import ClientError

    try:
        body, _ = read_object(store, place.key(MANIFEST))
    except ClientError as error:
        if not is_missing(error):
            raise
        return None
    return Manifest.parse(body, f"{place.uri}/{MANIFEST}")


def _nothing(store: Store, place: Place) -> ExperimentError:
    hint = None
    if place.prefix:
        near = store.call("list_objects_v2", Prefix=place.prefix, MaxKeys=1).get("Contents", ())
        if near and near[0]["Key"] == place.prefix:
            hint = f"this is an object; use its folder, {place.uri.rpartition('/')[0]}"
        elif near:
            hint = f"the nearest key is {near[0]['Key']}"
    return ExperimentError(Mistake(place.uri, f"no objects found in {store.target}", "a folder with objects", "none", hint))


def _check_names(place: Place, found: Mapping[str, Object]) -> None:
    """Raises StorageError for keys that cannot be files of one folder: S3 allows more names than a disk."""
    for name in found:
        try:
            check_name(name)
        except ValueError as error:
            raise StorageError(f"{place.uri}: the key {found[name].key!r} cannot be a file name") from error
        above = next((str(parent) for parent in Path(name).parents if str(parent) in found), None)
        if above is not None:
            raise StorageError(f"{place.uri}: {above} is an object and also the folder of {name}; a disk cannot hold both")


def unfinished(place: Place, found: Iterable[str]) -> str:
    """The sentence for a place with objects but without our manifest."""
    below = sorted(name.removesuffix(f"/{MANIFEST}") for name in found if name.endswith(f"/{MANIFEST}"))
    if below:
        return f"{place.uri} holds several uploads; use one of them, as {place.uri}/{below[-1]}"
    return (
        f"{place.uri} has no {MANIFEST}: the upload is unfinished (finish it with: launcher upload RUN), or not by this launcher"
    )
