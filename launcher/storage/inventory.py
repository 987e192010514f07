"""What lies in a place: the objects, and what the manifest of an upload of ours says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExperimentError, Mistake, StorageError
from .client import Store, is_missing
from .manifest import MANIFEST, Entry, Manifest, check_name
from .objects import Object, objects_below, read_object
from .place import Place


@dataclass(frozen=True)
class Inventory:
    """Objects by their names. ``entries``: what a manifest of ours says of them, None where there is none."""

    objects: Mapping[str, Object]
    entries: Mapping[str, Entry] | None


def inventory(store: Store, place: Place, names: frozenset[str] | None = None) -> Inventory:
    """What lies in ``place``, or ``names`` of it; where a manifest of ours lies there, what it names and nothing else.

    Raises ExperimentError where nothing lies there, StorageError where something else does than the manifest names.
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
                what = "is not there" if there is None else f"has {there.size} bytes"
                raise StorageError(f"{place.uri}: {entry.name} {what}, expected {entry.size} bytes: {MANIFEST} names it")
        entries = {entry.name: entry for entry in manifest.files if names is None or entry.name in names}
        return Inventory({name: found[name] for name in entries}, entries)
    chosen = {name: one for name, one in found.items() if names is None or name in names}
    _check_names(place, chosen)
    return Inventory(chosen, None)


def _read_manifest(store: Store, place: Place) -> Manifest | None:
    """None where it is somebody else's, or was deleted a moment ago: the upload of other contents has begun."""
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


def unfinished(place: Place, found: Iterable[str]) -> str:
    """The sentence for a place that has objects, and no manifest of ours."""
    below = sorted(name.removesuffix(f"/{MANIFEST}") for name in found if name.endswith(f"/{MANIFEST}"))
    if below:
        return f"{place.uri}: uploads lie below it, expected one: name {place.uri}/{below[-1]}, for example"
    return f"{place.uri}: has no {MANIFEST}: an upload that is not finished (`launcher upload RUN` finishes it), or none of ours"
