"""Damaged files: each loads, or ends with a message that names a place; none with a traceback.

python -m tests.launcher.test_mutations COUNT [SEED]     tries COUNT mutations of each file
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.data.pairs import read_pairs
from launcher.data.rows import Reading
from launcher.errors import DataError, ExperimentError
from launcher.experiment.files import load
from launcher.experiment.schema import Experiment

REPOSITORY = Path(__file__).parents[2]
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


def load_experiment(folder: Path, data: bytes) -> None:
    file = folder / "e.yml"
    file.write_bytes(data)
    load("demo", file=file)


def read_as(name: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, data: bytes) -> None:
        (folder / name).write_bytes(data)
        settings = {"model_name": "m", "datasets_path": str(folder), "train_filename": name}
        read_pairs(Experiment.parse(settings), Reading())

    return read


def originals() -> dict[str, tuple[bytes, Callable[[Path, bytes], None]]]:
    rows = [("Where is it?", "At Linden Square.", "Somewhere, I think."), ('Say "hi", please', "hi\nthere", "no; never")]
    records = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows]
    quoted = ["prompt,chosen,rejected", *(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)]
    return {
        "yaml": ((REPOSITORY / "configs" / "demo.yml").read_bytes(), load_experiment),
        "csv": ("\n".join(quoted).encode() + b"\n", read_as("t.csv")),
        "jsonl": ("\n".join(map(json.dumps, records)).encode() + b"\n", read_as("t.jsonl")),
        "json": (json.dumps(records, indent=1).encode(), read_as("t.json")),
    }


def tried(kind: str, count: int, seed: int, folder: Path) -> tuple[int, int]:
    """How many mutations were read, and how many were refused at a place."""
    original, read = originals()[kind]
    good = 0
    for data in mutations(original, count, seed):
        try:
            read(folder, data)
            good += 1
        except (DataError, ExperimentError) as error:
            if not all(mistake.where for mistake in error.mistakes):
                raise AssertionError(f"a mistake without a place: {error}\n{data!r}") from error
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{data!r}") from error
    return good, count - good


@pytest.mark.parametrize("kind", ["yaml", "csv", "jsonl", "json"])
def test_a_damaged_file_loads_or_is_refused_at_a_place(kind: str, tmp_path: Path) -> None:
    good, refused = tried(kind, 250, 1, tmp_path)
    assert good > 0
    assert refused > 50


if __name__ == "__main__":
    for name in originals():
        with tempfile.TemporaryDirectory() as temporary:
            print(name, *tried(name, int(sys.argv[1]), int((sys.argv + ["1"])[2]), Path(temporary)))  # noqa: T201
