"""What reads files, for mutations and for the fuzzer: experiment files, tables, and prompt tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from launcher.data.pairs import read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import DataError, ExperimentError
from launcher.experiment.files import load
from launcher.experiment.schema import Experiment

REPOSITORY = Path(__file__).parents[2]
Read = Callable[[Path, bytes], object]

ROWS = [("Where is it?", "At Linden Square.", "Somewhere, I think."), ('Say "hi", please', "hi\nthere", "no; never")]
COLUMNS = ("prompt", "chosen", "rejected")
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def load_experiment(folder: Path, data: bytes) -> None:
    """Reads ``data`` as an experiment file, and what it resolves to as the trainer reads it."""
    file = folder / "e.yml"
    file.write_bytes(data)
    experiment = load("demo", file=file).experiment
    again = Experiment.model_validate(json.loads(experiment.model_dump_json()))
    assert again == experiment, "the trainer reads another experiment than the launcher wrote"


def read_as(name: str) -> Read:
    """Reads ``data`` as the training table ``name``."""

    def read(folder: Path, data: bytes) -> None:
        (folder / name.partition("#")[0]).write_bytes(data)
        settings = {"model_name": "m", "datasets_path": str(folder), "train_filename": name}
        read_pairs(Experiment.parse(settings), Reading())

    return read


def read_prompts(folder: Path, data: bytes) -> None:
    """Reads ``data`` as the prompt table of a table that is right."""
    (folder / "t.jsonl").write_text("".join(json.dumps(one) + "\n" for one in RECORDS))
    (folder / "prompt_data.csv").write_bytes(data)
    read_pairs(Experiment.parse({"model_name": "m", "datasets_path": str(folder), "train_filename": "t.jsonl"}), Reading())


def is_read(read: Read, folder: Path, data: bytes) -> bool:
    """Whether ``data`` are read; False where they are refused at a place. Raises AssertionError for everything else."""
    try:
        read(folder, data)
    except (DataError, ExperimentError) as error:
        if not all(mistake.where for mistake in error.mistakes):
            raise AssertionError(f"a mistake without a place: {error}\n{data!r}") from error
        return False
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{data!r}") from error
    return True


READERS: dict[str, Read] = {"yaml": load_experiment, "csv": read_as("t.csv"), "jsonl": read_as("t.jsonl")}
