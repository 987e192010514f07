"""Damaged files: each loads, or ends with a message that names a place; none with a traceback.

python -m tests.launcher.test_mutations COUNT [SEED [KIND]...]     tries COUNT mutations of each file
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.readers import COLUMNS, READERS, RECORDS, REPOSITORY, ROWS, Read, is_read, read_as, read_prompts
from tests.workbooks import workbook

TEXTS = ("<<: *conf", "&conf ", "*demo", "- ", "\n\n", "\u200b", "\ufeff", "1e999", "null", "!!map ", "${HOME}", "'", '"""')
BYTES = (0, 9, 10, 13, 34, 39, 44, 58, 59, 91, 123, 125, 127, 128, 255)
ODD = (*(bytes([number]) for number in BYTES), *(text.encode() for text in TEXTS))


def mutations(original: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``original`` with one to four places deleted, doubled, exchanged, overwritten or filled with something odd."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(original)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data) + 1)
            end = min(len(data), place + chance.choice((1, 1, 2, 5, 20, 80)))
            kind = chance.randrange(5)
            if kind == 0:
                del data[place:end]
            elif kind == 1:
                data[place:place] = data[place:end]
            elif kind == 2:
                data[place:place] = chance.choice(ODD)
            elif kind == 3:
                data[place:end] = chance.choice(ODD)
            else:
                other = chance.randrange(len(data) + 1)
                data[other:other] = bytes(data[place:end])
        yield bytes(data)


def originals() -> dict[str, tuple[bytes, Read]]:
    import pyarrow as pa
    from pyarrow import parquet

    quoted = [",".join(COLUMNS), *(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in ROWS)]
    prompts = 'name,system,user\nprompt_default,"Be brief, please.","Question: {prompt}"\nother,,{prompt}\n'
    columns = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(RECORDS), columns)
    chats = "".join(file.read_text() for file in sorted((REPOSITORY / "tests/fuzz/seeds/jsonl").glob("m*.jsonl")))
    return {
        "yaml": ((REPOSITORY / "configs" / "demo.yml").read_bytes(), READERS["yaml"]),
        "csv": ("\n".join(quoted).encode() + b"\n", READERS["csv"]),
        "jsonl": ("\n".join(map(json.dumps, RECORDS)).encode() + b"\n", READERS["jsonl"]),
        "messages": (chats.encode(), read_as("t.jsonl")),
        "json": (json.dumps(RECORDS, indent=1).encode(), read_as("t.json")),
        "prompts": (prompts.encode(), read_prompts),
        "xlsx": (workbook({"Train": [COLUMNS, *ROWS]}), read_as("t.xlsx")),
        "parquet": (columns.getvalue().to_pybytes(), read_as("t.parquet")),
    }


def tried(kind: str, count: int, seed: int, folder: Path) -> tuple[int, int]:
    """How many mutations were read, and how many were refused at a place."""
    original, read = originals()[kind]
    good = 0
    for data in mutations(original, count, seed):
        good += is_read(read, folder, data)
    return good, count - good


@pytest.mark.parametrize("kind", ["yaml", "csv", "jsonl", "messages", "json", "prompts", "xlsx", "parquet"])
def test_a_damaged_file_loads_or_is_refused_at_a_place(kind: str, tmp_path: Path) -> None:
    good, refused = tried(kind, 250, 1, tmp_path)
    assert good > 0
    assert refused > 50


if __name__ == "__main__":
    for name in sys.argv[3:] or originals():
        with tempfile.TemporaryDirectory() as temporary:
            print(name, *tried(name, int(sys.argv[1]), int((sys.argv + ["1"])[2]), Path(temporary)))  # noqa: T201
