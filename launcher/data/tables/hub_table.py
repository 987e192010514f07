"""A dataset on the hub -> tables: a name of the experiment is a split, which may have many files, or a file."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import Mistake, nearest
from ...experiment.schema import Experiment
from ...experiment.sections.hub_data import HubData
from .arrow_table import KEPT
from .formats import read_table
from .hub_files import HubFiles, open_data
from .hub_layout import PACKED, is_data
from .streamed import Streamed
from .table import Joined, Row, Table, Tables

if TYPE_CHECKING:
    from .reading import Reading

_PACKING: Final = 3  # the bytes of text in a byte of a compressed file, roughly
_TRAIN: Final = "train"  # the split where the experiment names no other


def hub_tables(experiment: Experiment, reading: Reading, prompts: str, mistakes: list[Mistake]) -> Tables | None:
    """The tables, None without the training pairs; ``prompts``: the file of the prompt table where none is named.

    Raises what ``open_data`` raises, and ExperimentError for a config that the dataset does not have.
    """
    data = HubData.parse(str(experiment.datasets_path))
    found = open_data(data if reading.commit is None else data.at(reading.commit), reading)
    default = Experiment.model_fields["train_filename"].default
    train = experiment.train_filename
    if train == default and default not in found.files:
        train = _TRAIN
    named = experiment.prompt_filename or (prompts if prompts in found.files else None)
    roles = (("train_filename", train), ("validation_filename", experiment.validation_filename), ("prompt_filename", named))
    tables = [None if name is None else _table(found, setting, name, mistakes) for setting, name in roles]
    return None if tables[0] is None else Tables(tables[0], tables[1], tables[2])


def _table(found: HubFiles, setting: str, name: str, mistakes: list[Mistake]) -> Table | None:
    """The table of a file or split, or None with its mistakes added to ``mistakes``."""
    is_file = name in found.files
    files = (name,) if is_file else found.layout.splits.get(name)
    if files is None:
        splits = list(found.layout.splits)
        what = f"no split or file {name!r}, which {setting} names"
        hint = nearest(name, splits)
        mistakes.append(Mistake(found.data.name, what, "a split, or the path of a file", ", ".join(splits), hint))
        return None
    size = sum(found.path(file).stat().st_size for file in files)
    is_large = len(files) > 1 and _PACKING * size > KEPT
    tables = [_read(found, file, mistakes, is_of_many=is_large) for file in files]
    parts = [table for table in tables if table is not None]
    unlike = list(_unlike(parts))
    mistakes += unlike
    if unlike or len(parts) < len(files):
        return None
    config = None if is_file else found.layout.config
    hub = {"name": found.data.name, "revision": found.data.revision, "config": config, "split": None if is_file else name}
    return replace(parts[0] if len(parts) == 1 else _joined(f"{found.data.name}: {name}", parts), hub=hub)


def _read(found: HubFiles, file: str, mistakes: list[Mistake], *, is_of_many: bool) -> Table | None:
    path, name = found.path(file), f"{found.data.name}/{file}"
    if not file.endswith(PACKED):
        return read_table(name, path, mistakes, is_of_many=is_of_many)
    if not is_data(file):
        mistakes.append(Mistake(name, "a packed file of this format is not read", "packed text, such as .jsonl.gz"))
        return None
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "unpacked"
        try:
            with gzip.open(path) as packed, unpacked.open("wb") as to:
                shutil.copyfileobj(packed, to)
        except (EOFError, gzip.BadGzipFile) as error:
            mistakes.append(Mistake(name, "not a gzip archive", found=str(error)))
            return None
        return read_table(name.removesuffix(PACKED), unpacked, mistakes)


def _unlike(parts: Sequence[Table]) -> Iterator[Mistake]:
    for table in parts[1:]:
        if set(table.columns) != set(parts[0].columns):
            what = f"columns differ from those in {parts[0].name}"
            yield Mistake(table.place(table.line), what, ", ".join(parts[0].columns), ", ".join(table.columns))


def _joined(name: str, parts: Sequence[Table]) -> Table:
    """One table of several, whose rows are numbered through."""
    places, line = [], 0
    for table in parts:
        places.append((line, table.name))
        line += len(table.rows) if isinstance(table.rows, Streamed) else table.rows[-1].line

    def rows() -> Iterator[Row]:
        for (before, _), table in zip(places, parts, strict=True):
            yield from (Row(before + row.line, row.cells) for row in table.rows)

    count = sum(len(table.rows) for table in parts)
    is_kept = all(isinstance(table.rows, tuple) for table in parts)
    every: Sequence[Row] = tuple(rows()) if is_kept else Streamed(count, rows)
    sha256 = hashlib.sha256("".join(f"{table.sha256} {table.name}\n" for table in parts).encode()).hexdigest()
    ignored = tuple(sentence for table in parts for sentence in table.ignored)
    return Table(Joined(name, places), parts[0].columns, every, sha256, parts[0].line, ignored=ignored)
