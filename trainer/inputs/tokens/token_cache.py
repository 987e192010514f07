"""The cache file of token ids: a list per pair for the prompt and each answer, read and written without a second copy.

Its name has the SHA-256 of its bytes: Arrow reads some damaged files as other ids, and ends the process at others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from launcher.digest import sha256_of

from .token_pairs import PARTS, Numbers, TokenPairs

GROUP: Final = 2048  # pairs that are written or read at a time
_COLUMNS: Final = pa.schema([*((name, pa.list_(pa.int32())) for name in PARTS), ("lost", pa.int64())])


def write_ids(file: Path, pairs: TokenPairs, lost: Numbers) -> None:
    """Writes what ``read_ids`` finds under the name ``file``. ``lost``: [n], a number that is kept with each pair."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.urandom(4).hex()}")  # every rank may write it
    with pq.ParquetWriter(aside, _COLUMNS, use_dictionary=False, compression="zstd") as writer:
        for start in range(0, len(pairs), GROUP):
            some = pairs[start : start + GROUP]
            columns = [*(some.column(j).cast(_COLUMNS[j].type) for j in range(3)), pa.array(lost[start : start + GROUP])]
            writer.write_table(pa.table(columns, schema=_COLUMNS))
    aside.replace(file.with_name(f"{file.stem}.{sha256_of(aside)}{file.suffix}"))


def read_ids(file: Path, lines: Sequence[int]) -> tuple[TokenPairs, Numbers] | None:
    """(pairs, ``lost``); None if the file is missing, damaged, or of other pairs than those at ``lines``.

    Earlier versions wrote ``file`` itself, without a SHA-256: it is read as it is.
    """
    try:
        hashed = sorted(file.parent.glob(f"{file.stem}.*{file.suffix}"))
        file = next((path for path in hashed if path.stem == f"{file.stem}.{sha256_of(path)}"), file)
        if hashed and file not in hashed:
            return None
        with pq.ParquetFile(file) as parquet:
            return _filled(parquet, lines)
    except (OSError, pa.ArrowException, KeyError, ValueError):  # Arrow raises OSError for damage, too
        return None


def _filled(parquet: pq.ParquetFile, lines: Sequence[int]) -> tuple[TokenPairs, Numbers]:
    """What a file holds, read group by group into arrays that are large enough for all of it."""
    groups = [parquet.metadata.row_group(n) for n in range(parquet.metadata.num_row_groups)]
    prompt, chosen, rejected = ids = tuple(np.empty(sum(g.column(j).num_values for g in groups), np.int32) for j in range(3))
    lengths, lost, ends, done = np.empty((len(lines), 3), np.int64), np.empty(len(lines), np.int64), [0, 0, 0], 0
    for number in range(len(groups)):
        table = parquet.read_row_group(number, _COLUMNS.names).combine_chunks()
        upto = done + len(table)
        for j in range(3):
            (some,) = table.column(PARTS[j]).chunks
            flat = some.flatten().to_numpy()
            ids[j][ends[j] : ends[j] + len(flat)] = flat
            ends[j] += len(flat)
            lengths[done:upto, j] = some.value_lengths().to_numpy()
        lost[done:upto] = table.column("lost").to_numpy()
        done = upto
    if done != len(lines):
        raise ValueError(f"{done} rows for {len(lines)} pairs")
    return TokenPairs.joined((prompt[: ends[0]], chosen[: ends[1]], rejected[: ends[2]]), lengths, lines), lost
