"""The checkpoints of a run in a bucket (``checkpoint_to``): each complete or absent, with the run's files as at its step.

<checkpoint_to>/exp_<id>/<model>/<run>/checkpoint-<step>/manifest.json   written last: without it there is no checkpoint
                                                        /<files>         those of the run's folder checkpoint-<step>
                                                        /run/<files>     of the run's folder: record, metrics, logs
                                      /start/                          the run's copy of the adapter that it started from
                                      /run/, /adapter/                   the same of a run that is over, and its adapter
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from ...errors import StorageError, UploadError
from ...experiment.schema import Experiment, StorageConfig
from ...experiment.sections.bucket_name import split
from ..client.explained import endpoint_of, explained, no_address
from ..client.store import Effort, Store, is_missing
from ..manifest import MANIFEST, Entry, Manifest
from ..objects import objects_below, read_object
from ..place import Place
from ..probe import check_bucket
from ..progress import Listener
from ..run import key_parts
from ..transfer.download import Downloaded, download_folder
from ..transfer.parts import abort, pending_below
from ..transfer.upload import Others, Uploaded, upload_folder, upload_part

RUN: Final = "run"  # in a checkpoint: copies of the run's own files
ADAPTER: Final = "adapter"
START: Final = "start"
PARTS: Final = ".parts"  # in a checkpoint of several nodes: what each node has uploaded
_STEP: Final = re.compile(r"checkpoint-(\d+)/")
_EFFORT: Final = Effort(threads=4)  # beside a training, which needs the cores
_PURPOSE: Final = "list, read, write and delete"
_LOOK: Final = 1.0  # seconds between two looks for the parts of the other nodes


@dataclass(frozen=True)
class Mirrored:
    """The place of one run. ``storage``: the bucket, prefix and server of its ``checkpoint_to``."""

    storage: StorageConfig
    parts: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    effort: Effort = _EFFORT

    @classmethod
    def of(cls, experiment: Experiment, run: str, env: Mapping[str, str], effort: Effort = _EFFORT) -> Self | None:
        """None for an experiment without ``checkpoint_to``."""
        if experiment.checkpoint_to is None:
            return None
        bucket, prefix = split(experiment.checkpoint_to)
        storage = experiment.storage_config or StorageConfig()
        return cls(
            storage.model_copy(update={"bucket_name": bucket, "object_prefix": prefix}), key_parts(experiment, run), env, effort
        )

    @classmethod
    def at(cls, uri: str, endpoint_url: str | None, region: str | None, env: Mapping[str, str]) -> Self:
        """The place of the run whose checkpoints are below ``uri``."""
        bucket, prefix = split(uri)
        known = {"bucket_name": bucket, "object_prefix": prefix, "endpoint_url": endpoint_url, "region": region}
        return cls(StorageConfig.model_validate(known), (), env)

    def place(self, *names: str) -> Place:
        assert self.storage.bucket_name is not None, "checkpoint_to names a bucket"
        return Place.of(self.storage.bucket_name, self.storage.object_prefix, *self.parts, *names)

    @property
    def uri(self) -> str:
        return self.place().uri

    def check(self) -> list[str]:
        """Writes, reads and removes a small object, as ``check_bucket``; raises what that raises."""
        return check_bucket(self.storage, self.env, self.parts, where="checkpoint_to")

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, oldest first."""
        with self._store() as store:
            return sorted(self._found(store)[0])

    def send(self, step: int, folder: Path, *, others: Others | None = None, listener: Listener | None = None) -> Uploaded:
        """Uploads the checkpoint in ``folder``, its manifest last; raises what ``upload_folder`` raises."""
        return self.keep(f"checkpoint-{step}", folder, others=others, listener=listener)

    def keep(self, name: str, folder: Path, *, others: Others | None = None, listener: Listener | None = None) -> Uploaded:
        """Uploads ``folder`` under ``name``, its manifest last."""
        about: dict[str, Any] = {"storage": self.storage, "env": self.env, "effort": self.effort}
        return upload_folder(folder, prefix_parts=(*self.parts, name), others=others, listener=listener, **about)

    def send_part(self, step: int, folder: Path, note: str) -> None:
        """Uploads what only this node has of a checkpoint; ``note`` names it for the first node, see ``others``."""
        parts = (*self.parts, f"checkpoint-{step}")
        upload_part(folder, f"{PARTS}/{note}", storage=self.storage, prefix_parts=parts, env=self.env, effort=self.effort)

    def others(self, notes: Sequence[str], patience: float) -> Others:
        """Waits for the parts ``notes`` of the other nodes and returns their entries; raises UploadError after ``patience`` s."""

        def wait(store: Store, place: Place) -> Iterable[Entry]:
            deadline, entries = time.monotonic() + patience, list[Entry]()
            for note in notes:
                while (part := _list_in(store, place.key(f"{PARTS}/{note}"))) is None:
                    if time.monotonic() > deadline:
                        raise UploadError(f"{place.uri}: another node did not upload its part ({note}) within {patience:.0f} s")
                    time.sleep(_LOOK)
                entries += part.files
            return entries

        return wait

    def prune(self, limit: int | None, kept: Iterable[int] = ()) -> list[int]:
        """Removes all but the newest ``limit`` checkpoints and those of the steps ``kept``, and what is left of unfinished ones
        before the newest; returns the steps that were removed. A checkpoint's manifest goes first.
        """
        with self._store() as store:
            complete, every = self._found(store)
            newest = sorted(complete)[-limit:] if limit is not None else sorted(complete)
            stay = {*newest, *(complete & set(kept))}
            old = sorted(step for step in every - stay if complete and step < max(complete))
            for step in old:
                self._remove(store, self.place(f"checkpoint-{step}"))
            return [step for step in old if step in complete]

    def fetch(self, step: int, target: Path, listener: Listener | None = None) -> Downloaded:
        """Downloads a checkpoint to the new folder ``target``, compared by its hashes; raises what ``download_folder`` raises."""
        return self.fetch_folder(f"checkpoint-{step}", target, listener)

    def fetch_folder(self, name: str, target: Path, listener: Listener | None = None) -> Downloaded:
        """The same for what ``keep`` uploaded under ``name``."""
        uri = self.place(name).uri
        return download_folder(uri, target, storage=self.storage, env=self.env, effort=self.effort, listener=listener)

    def read(self, name: str) -> bytes | None:
        """A small object of the run's place; None if it is missing."""
        with self._store() as store:
            return _read(store, self.place().key(name))

    def record(self) -> dict[str, Any] | None:
        """The newest record (``run.json``) of the run here; None if there is none."""
        found = self._records()
        return None if not found else found[-1][1]

    def newest_files(self) -> str | None:
        """Where the newest of the run's own files are, below its place; None if there are none."""
        found = self._records()
        return None if not found else found[-1][0]

    def names(self, below: str) -> list[str]:
        """The names of the objects ``below`` the run's place."""
        with self._store() as store:
            return [name for name, _ in objects_below(store, self.place(below))]

    def _records(self) -> list[tuple[str, dict[str, Any]]]:
        """(place, record), the newest one last: that of more attempts, and of two that of a run that is over."""
        newest = max(self.steps(), default=None)
        places = [*([] if newest is None else [f"checkpoint-{newest}/{RUN}"]), RUN]
        found = [(one, dict(json.loads(body))) for one in places if (body := self.read(f"{one}/run.json")) is not None]
        return sorted(found, key=lambda one: len(one[1].get("attempts") or ()))

    @contextmanager
    def _store(self) -> Iterator[Store]:
        """The store, whose errors are explained."""
        endpoint, bucket = endpoint_of(self.storage, self.env), str(self.storage.bucket_name)
        with explained(bucket, endpoint, purpose=_PURPOSE, failure=StorageError, where="checkpoint_to"):
            try:
                store = Store.open(bucket, self.storage, self.env, self.effort)
            except ValueError as error:
                raise no_address(endpoint, StorageError) from error
            yield store

    def _found(self, store: Store) -> tuple[set[int], set[int]]:
        """(steps of the complete checkpoints, steps of all checkpoints, complete or not)."""
        names = [name for name, _ in objects_below(store, self.place())]
        steps = {name: int(match[1]) for name in names if (match := _STEP.match(name))}
        return {step for name, step in steps.items() if name == f"checkpoint-{step}/{MANIFEST}"}, set(steps.values())

    def _remove(self, store: Store, place: Place) -> None:
        names = [name for name, _ in objects_below(store, place)]
        for name in sorted(names, key=lambda name: name != MANIFEST):
            store.call("delete_object", Key=place.key(name))
        for left in pending_below(store, place).values():
            abort(store, left)


def _read(store: Store, key: str) -> bytes | None:
    from botocore.exceptions import ClientError

    try:
        return read_object(store, key)[0]
    except ClientError as error:
        if not is_missing(error):
            raise
        return None


def _list_in(store: Store, key: str) -> Manifest | None:
    body = _read(store, key)
    return None if body is None else Manifest.parse(body, key)
