"""upload_folder: uploads a folder, compares each object with its SHA-256, and writes the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import ExperimentError, Mistake, StorageError, UploadError
from ...experiment.schema import StorageConfig
from ..client.explained import endpoint_of, explained, no_address
from ..client.store import EFFORT, Effort, Store
from ..manifest import MANIFEST, Entry, Manifest
from ..objects import MARK, Object, objects_below, read_object
from ..place import Place
from ..progress import Listener, Meter
from ..workers import Workers, first_error
from .local import Digests, LocalFile, files_below
from .parts import Pending, abort, pending_below, send_in_parts
from .proof import check, differs

# What other machines upload to the same place: called when the files of this one are there, it returns their entries.
Others = Callable[[Store, Place], Iterable[Entry]]


@dataclass(frozen=True)
class Uploaded:
    """The bucket's contents: ``objects`` includes the manifest, ``bytes`` all contents. ``notices``: what was left undone."""

    uri: str
    objects: int
    bytes: int
    notices: tuple[str, ...] = ()


def upload_folder(
    folder: Path,
    *,
    storage: StorageConfig,
    prefix_parts: Sequence[str],
    env: Mapping[str, str],
    names: Iterable[str] | None = None,
    effort: Effort = EFFORT,
    listener: Listener | None = None,
    others: Others | None = None,
) -> Uploaded:
    """Uploads every file below ``folder`` to ``s3://<bucket>/<object_prefix>/<prefix_parts…>/<relative path>``.

    Uploads resume: objects and parts that the server has are not sent again. Each object's size and SHA-256 are checked after it
    was sent. The ``manifest.json`` (names, sizes, SHA-256) of earlier contents is deleted first and the new one is written last,
    so a place with a manifest is complete at every moment. A link is uploaded as the file inside the folder that it names; a link
    out of the folder is refused before anything is sent.

    ``names``: only these files. ``others``: the manifest names what it returns, too.

    Raises CredentialError if credentials are missing or refused, ExperimentError if ``storage`` names no bucket, and UploadError
    for any other fault of the folder, the network or the server.
    """
    place, chosen = _place(storage, prefix_parts), None if names is None else frozenset(names)
    with _opened(place, storage, env, effort) as store:
        files = files_below(folder, effort.part, chosen)
        with Meter(sum(file.size for file in files), listener) as meter:
            manifest = _Upload(store, place, files, meter, others).run()
    size = manifest.bytes + len(manifest.text().encode())
    return Uploaded(place.uri, len(manifest.files) + 1, size, tuple(dict.fromkeys(store.notices)))


def upload_part(
    folder: Path,
    note: str,
    *,
    storage: StorageConfig,
    prefix_parts: Sequence[str],
    env: Mapping[str, str],
    effort: Effort = EFFORT,
) -> None:
    """Uploads the files below ``folder`` to a place whose manifest another machine writes.

    Their list is the object ``note`` of that place, which is written last. Raises what :func:`upload_folder` raises.
    """
    place = _place(storage, prefix_parts)
    with _opened(place, storage, env, effort) as store:
        files = files_below(folder, effort.part)
        with Meter(sum(file.size for file in files), None) as meter:
            _Upload(store, place, files, meter, others=lambda *_: ()).part(note)


def _place(storage: StorageConfig, parts: Sequence[str]) -> Place:
    if storage.bucket_name is None:
        raise ExperimentError(Mistake("storage_config", "bucket_name is not set", expected="the name of a bucket"))
    return Place.of(storage.bucket_name, storage.object_prefix, *parts)


@contextmanager
def _opened(place: Place, storage: StorageConfig, env: Mapping[str, str], effort: Effort) -> Iterator[Store]:
    endpoint = endpoint_of(storage, env)
    with explained(place.bucket, endpoint, purpose="write", failure=UploadError):
        try:
            store = Store.open(place.bucket, storage, env, effort)
        except ValueError as error:
            raise no_address(endpoint, UploadError) from error
        yield store


@dataclass(frozen=True)
class _Upload:
    store: Store
    place: Place
    files: Sequence[LocalFile]
    meter: Meter
    others: Others | None = None

    def run(self) -> Manifest:
        before = dict(objects_below(self.store, self.place))
        old = self._old_manifest() if MANIFEST in before else None
        if old is not None and self.others is None and self._is_all_there(old, before):
            for file in self.files:
                self.meter.add(file.size, kept=True)
            return old
        if MANIFEST in before:  # first: no reader may see a mixture
            self.store.call("delete_object", Key=self._key(MANIFEST))
        entries = self._send_files(before)
        if self.others is not None:
            entries += self.others(self.store, self.place)
        manifest = Manifest.of(entries)
        self._send_list(MANIFEST, manifest)
        named = {entry.name for entry in old.files} if old is not None else set()
        for name in sorted(named - {entry.name for entry in manifest.files}):
            self.store.call("delete_object", Key=self._key(name))
        return manifest

    def part(self, note: str) -> None:
        """Sends the files, and then their list as the object ``note``."""
        self._send_list(note, Manifest.of(self._send_files(dict(objects_below(self.store, self.place)))))

    def _key(self, name: str) -> str:
        return self.place.key(name)

    def _old_manifest(self) -> Manifest | None:
        key = self._key(MANIFEST)
        try:
            return Manifest.parse(read_object(self.store, key)[0], key)
        except StorageError:
            return None  # damaged: it is written again

    def _is_all_there(self, old: Manifest, before: Mapping[str, Object]) -> bool:
        sizes = [(file.name, file.size) for file in self.files]
        if [(entry.name, entry.size) for entry in old.files] != sizes:
            return False
        if any(name not in before or before[name].size != size for name, size in sizes):
            return False
        for file, entry in zip(self.files, old.files, strict=True):
            digests = file.digests()
            if file.entry(digests) != entry or differs(self.store, self._key(file.name), file, digests):
                return False
        return True

    def _send_files(self, before: Mapping[str, Object]) -> list[Entry]:
        pending = pending_below(self.store, self.place)
        large = [file for file in self.files if file.is_large]
        mine = {self._key(file.name): pending.pop(self._key(file.name), []) for file in large}
        for left in pending.values() if self.others is None else ():  # else they may be another machine's
            abort(self.store, left)
        with Workers(self.store.effort.threads, self.store.closing) as workers:
            small: list[Future[Entry]] = []
            try:
                for file in self.files:
                    if not file.is_large:
                        small.append(workers.submit(self._send_small, file, before.get(file.name)))
                entries = [self._send_large(file, before.get(file.name), mine, workers) for file in large]
            finally:
                first_error(list(small))
        return entries + [future.result() for future in small]

    def _send_small(self, file: LocalFile, there: Object | None) -> Entry:
        (data,), key = file.parts(), self._key(file.name)
        sha256 = hashlib.sha256(data).digest()
        digests = Digests(sha256, (sha256,))
        is_there = there is not None and there.size == file.size and differs(self.store, key, file, digests) is None
        if not is_there:
            self.store.send("put_object", data, sha256, Key=key, Metadata=MARK)
            check(self.store, key, file, digests)
        self.meter.add(file.size, kept=is_there)
        return file.entry(digests)

    def _send_large(self, file: LocalFile, there: Object | None, mine: Mapping[str, list[Pending]], workers: Workers) -> Entry:
        key = self._key(file.name)
        if there is not None and there.size == file.size:
            digests = file.digests()
            if differs(self.store, key, file, digests) is None:
                abort(self.store, mine[key])
                self.meter.add(file.size, kept=True)
                return file.entry(digests)
        digests = send_in_parts(self.store, file, key, mine[key], workers, self.meter)
        check(self.store, key, file, digests)
        return file.entry(digests)

    def _send_list(self, name: str, manifest: Manifest) -> None:
        body, key = manifest.text().encode(), self._key(name)
        sent = {"Key": key, "Metadata": MARK, "ContentType": "application/json"}
        self.store.send("put_object", body, hashlib.sha256(body).digest(), **sent)
        found, _ = read_object(self.store, key)
        if found != body:
            raise UploadError(f"s3://{self.place.bucket}/{key}: the manifest differs from what was sent")
