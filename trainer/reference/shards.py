"""Numbers by key in Parquet files, which any number of processes and machines read and extend without a lock.

A shard is written once, aside, and renamed to the SHA-256 of its bytes: it is never changed, and damage shows. No lock and
no database, because the cache root may be a network volume, where SQLite's locks cannot be trusted. A row takes 40 bytes
(a key has 32, a number 8, and nothing of either can be compressed): 4 MB for 100,000 answers.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KEY_BYTES: Final = 32
SMALL: Final = 1 << 20  # bytes
MANY: Final = 32
ABANDONED: Final = 24 * 3600.0  # seconds after which a file that was never renamed belongs to a process that died
_KEYS: Final = pa.binary(KEY_BYTES)


@dataclass(frozen=True)
class Shards:
    """The shards of one folder, which need not exist; ``say`` gets notices about damage and an unwritable folder."""

    folder: Path
    say: Callable[[str], None]

    def read(self, keys: Sequence[bytes]) -> np.ndarray:
        """[n] float64: the number of every key, NaN if missing.

        Where two processes added one key, the first number counts: a resumed run finds the numbers with which it began.
        """
        wanted = _keys(keys)
        numbers, times = np.full(len(keys), np.nan), np.full(len(keys), np.iinfo(np.int64).max)
        seen: set[Path] = set()
        # Repeated until nothing is new: another process may have merged a missing shard into a new one.
        while fresh := [path for path in self._shards() if path not in seen]:
            seen.update(fresh)
            for table in filter(None, map(self._open, fresh)):
                rows = pc.fill_null(pc.index_in(wanted, value_set=table["key"]), -1).to_numpy()
                number, added = table["number"].to_numpy()[rows], table["added"].to_numpy()[rows]
                better = (rows >= 0) & (added < times) & np.isfinite(number)
                numbers[better], times[better] = number[better], added[better]
        return numbers

    def add(self, numbers: Mapping[bytes, float]) -> None:
        """Adds one shard; raises OSError, and leaves nothing behind, where it cannot be written."""
        if not numbers:
            return
        added = np.full(len(numbers), time.time_ns())
        table = pa.table({"key": _keys(list(numbers)), "number": pa.array(list(numbers.values()), pa.float64()), "added": added})
        self._write(table)

    def save(self, numbers: Mapping[bytes, float]) -> bool:
        """Like ``add``, but a full or read-only disk is only a notice; returns whether it was written."""
        try:
            self.add(numbers)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self.say(f"notice: cannot write the reference cache {self.folder}: {reason}; a later run recomputes these pairs")
            return False
        return True

    def compact(self) -> None:
        """Merges many small shards, and removes half-written files of dead processes.

        Another process may read, add or compact at the same time: a shard is removed only after a merged one that holds its
        rows is on the disk. Raises OSError if the folder cannot be written.
        """
        for aside in self.folder.glob(".*.part"):
            if (stat := _stat(aside)) and time.time() - stat.st_mtime > ABANDONED:
                aside.unlink(missing_ok=True)
        small = [path for path in self._shards() if (stat := _stat(path)) and stat.st_size < SMALL]
        if len(small) <= MANY:
            return
        tables = {path: table for path in small if (table := self._open(path)) is not None}
        if not tables:
            return
        merged = pa.concat_tables(tables.values()).sort_by("added")
        _, first = np.unique(np.array(merged["key"].to_pylist(), dtype=f"S{KEY_BYTES}"), return_index=True)
        kept = self._write(merged.take(np.sort(first)))
        for path in tables:
            if path != kept:
                path.unlink(missing_ok=True)

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _open(self, path: Path) -> pa.Table | None:
        """The shard, or None if it is missing or damaged; a damaged one is removed, and its rows are recomputed."""
        try:
            data = path.read_bytes()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                self.say(f"notice: cannot read {path} of the reference cache: {(error.strerror or str(error)).lower()}")
            return None
        if hashlib.sha256(data).hexdigest() == path.stem:
            return pq.read_table(pa.BufferReader(data))
        self.say(f"notice: {path} of the reference cache is damaged: its pairs are recomputed")
        with suppress(OSError):  # of a read-only cache: the notice is enough
            path.unlink(missing_ok=True)
        return None

    def _write(self, table: pa.Table) -> Path:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=["added"])
        data = sink.getvalue().to_pybytes()
        name = hashlib.sha256(data).hexdigest()
        path, aside = self.folder / f"{name}.parquet", self.folder / f".{name}.{os.urandom(4).hex()}.part"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        return path


def _keys(keys: Sequence[bytes]) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(_KEYS, len(keys), [None, pa.py_buffer(b"".join(keys))])


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # another process has removed it
