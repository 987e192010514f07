"""A Parquet or Arrow file -> a table. A large one stays on disk: each pass over its rows reads it batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...errors import DataError, LauncherError, Mistake
from ...packages import adding
from .formats import text_of
from .streamed import Streamed
from .table import Row, Table

KEPT: Final = 256 << 20  # bytes of a file, uncompressed, up to which its rows stay in memory
BATCH: Final = 1024  # rows that are made at a time, fewer where they are long
_BATCH_BYTES: Final = 8 << 20
_BUFFER: Final = 1 << 20  # bytes of a column that are read at a time


@dataclass(frozen=True)
class _File:
    """``size``: bytes of its columns, roughly; ``batches`` reads it from the beginning, ``rows`` at a time at most."""

    columns: tuple[str, ...]
    count: int
    size: int
    batches: Callable[[int], Iterator[Any]]


def arrow_table(name: str, path: Path, mistakes: list[Mistake], *, is_of_many: bool) -> Table | None:
    """The table, or None with its mistakes added to ``mistakes``; the line of a row is its number, from 1.

    ``is_of_many``: it stays on disk whatever its size.

    Raises OSError if the file cannot be read, and LauncherError if pyarrow is not installed. A pass over the rows of a
    large file raises DataError if the file is damaged, or if it was changed since it was opened here.
    """
    suffix = "." + name.rpartition(".")[2].lower()
    stamp = _stamp(path)
    with path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    try:
        with _explained(name, suffix):
            file = _parquet(path) if suffix == ".parquet" else _arrow(path)
        streamed = Streamed(file.count, lambda: _same(name, path, stamp, _rows(name, suffix, file)))
        rows = streamed if is_of_many or file.size > KEPT else tuple(streamed)
    except DataError as error:
        mistakes += error.mistakes
        return None
    if not file.count:
        mistakes.append(Mistake(name, "the file is empty", expected="at least one record"))
        return None
    return Table(name, tuple(dict.fromkeys(file.columns)), rows, sha256)


def _stamp(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns, about.st_ino


def _same(name: str, path: Path, stamp: tuple[int, int, int], rows: Iterator[Row]) -> Iterator[Row]:
    """``rows``, of the file that has the ``stamp`` before and after them: those of another file were not checked."""
    for some in (rows, ()):
        try:
            is_same = _stamp(path) == stamp
        except OSError:
            is_same = False
        if not is_same:
            raise DataError(Mistake(name, "the file was changed or removed while it was read", hint="start again"))
        yield from some


@contextmanager
def _explained(name: str, suffix: str) -> Iterator[None]:
    """Turns the errors of pyarrow into the launcher's."""
    try:
        import pyarrow as pa
    except ImportError:
        raise LauncherError(f"{name}: {suffix} files need pyarrow: {adding('pyarrow')}") from None
    try:
        yield
    except (pa.ArrowException, OSError) as error:  # Arrow raises OSError for damage, too
        raise DataError(Mistake(name, f"not a {suffix[1:]} file", found=str(error).splitlines()[0][:200])) from error


def _parquet(path: Path) -> _File:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        about, names = file.metadata, file.schema_arrow.names
        size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))

    def batches(rows: int) -> Iterator[Any]:
        # With a buffer, a row group is read in pieces: one of a million rows is not in memory at once.
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield from file.iter_batches(rows, use_threads=False)

    return _File(tuple(names), about.num_rows, size, batches)


def _arrow(path: Path) -> _File:
    """Arrow's file or stream format, or the older Feather."""
    import pyarrow as pa
    from pyarrow import feather

    with path.open("rb") as opened:
        magic = opened.read(6)
    if magic.startswith(b"FEA1"):
        table = feather.read_table(path)
        return _File(tuple(table.column_names), table.num_rows, table.nbytes, table.to_batches)

    def whole(_: int = 0) -> Iterator[Any]:
        with pa.OSFile(str(path)) as source:
            if magic != b"ARROW1":
                yield from pa.ipc.open_stream(source)
                return
            with pa.ipc.open_file(source) as file:
                yield from (file.get_batch(number) for number in range(file.num_record_batches))

    def batches(rows: int) -> Iterator[Any]:
        return (batch.slice(start, rows) for batch in whole() for start in range(0, batch.num_rows, rows))

    with pa.OSFile(str(path)) as source:
        names = (pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream)(source).schema.names
    sizes = [(batch.num_rows, batch.nbytes) for batch in whole()]
    return _File(tuple(names), sum(count for count, _ in sizes), sum(size for _, size in sizes), batches)


def _rows(name: str, suffix: str, file: _File) -> Iterator[Row]:
    most = min(BATCH, max(1, _BATCH_BYTES * file.count // max(1, file.size)))
    line = 0
    with _explained(name, suffix):
        for batch in file.batches(most):
            for cells in zip(*(_texts(column) for column in batch.columns), strict=True):
                line += 1
                yield Row(line, dict(zip(file.columns, cells, strict=True)))


def _texts(column: Any) -> list[str]:
    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):  # a date before the year 1 or after 9999, which Python has not
        values = column.cast("string").to_pylist()
    return [value if isinstance(value, str) else text_of(value) for value in values]
