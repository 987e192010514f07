"""CSV files of a bucket are read as those of a folder, under their own names; moto answers over HTTP."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, Source, read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import DataError, ExperimentError
from launcher.experiment.schema import Experiment
from tests.s3.server import MotoServer
from tests.workbooks import workbook

TRAIN = b"prompt,chosen,rejected\nWhy?,Because.,No.\n"
PROMPTS = b"name,system,user\nprompt_default,,Q: {prompt}\n"
KEYS = {"AWS_ACCESS_KEY": "AKIAEXAMPLE", "AWS_SECRET_KEY": "hush-hush", "AWS_REGION": "us-east-1"}


@pytest.fixture
def bucket(moto: MotoServer) -> Any:
    client = moto.emptied("data")
    for name, body in {"training_data.csv": TRAIN, "prompt_data.csv": PROMPTS, "huge.bin": bytes(1 << 20)}.items():
        client.put_object(Bucket="data", Key=f"answers/{name}", Body=body)
    return client


def read(moto: MotoServer, cache: Path, path: str = "s3://data/answers/", **settings: Any) -> Pairs:
    storage = {"bucket_name": "models", "endpoint_url": moto.url}
    given = {"model_name": "m", "datasets_path": path, "storage_config": storage, **settings}
    return read_pairs(Experiment.parse(given), Reading(env=KEYS, cache=cache))


def test_what_is_read_has_the_names_and_the_hashes_of_the_bucket(moto: MotoServer, bucket: Any, tmp_path: Path) -> None:
    pairs = read(moto, tmp_path)
    assert [pair.user for pair in pairs.train] == ["Q: Why?"]
    assert pairs.sources == (
        Source("train", "s3://data/answers/training_data.csv", hashlib.sha256(TRAIN).hexdigest(), 1),
        Source("prompts", "s3://data/answers/prompt_data.csv", hashlib.sha256(PROMPTS).hexdigest(), 1),
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size >= 1 << 20]


def test_a_mistake_is_at_the_objects_line(moto: MotoServer, bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(Bucket="data", Key="answers/training_data.csv", Body=TRAIN + b"How?,,No.\n")
    with pytest.raises(DataError) as caught:
        read(moto, tmp_path, "s3://data/answers", validation_filename="held_out.csv")
    assert str(caught.value) == (
        "s3://data/answers/held_out.csv: file not found\n    found:    the folder has prompt_data.csv, training_data.csv\n"
        "    hint:     to hold out training pairs for it, write validation_split: 0.1 in place of validation_filename\n"
        "s3://data/answers/training_data.csv:3: empty cell in column 'chosen'"
    )
    with pytest.raises(DataError) as caught:
        read(moto, tmp_path)
    assert str(caught.value).startswith("s3://data/answers/training_data.csv:3: empty cell in column 'chosen'")


def test_a_place_where_nothing_is_is_the_experiments_mistake(moto: MotoServer, bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        read(moto, tmp_path, "s3://data/elsewhere")
    assert caught.value.exit_code == 42


def test_every_format_is_read_from_a_bucket(moto: MotoServer, bucket: Any, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    record = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    files = {name: io.BytesIO() for name in ("a.parquet", "a.feather")}
    parquet.write_table(pa.Table.from_pylist([record]), files["a.parquet"])
    feather.write_feather(pa.Table.from_pylist([record]), files["a.feather"])
    bodies = {name: file.getvalue() for name, file in files.items()}
    bodies["a.jsonl"] = json.dumps(record).encode()
    bodies["a.xlsx"] = workbook({"Notes": [["x"]], "Train": [list(record), list(record.values())]})
    for name, body in bodies.items():
        bucket.put_object(Bucket="data", Key=f"answers/{name}", Body=body)
    for name in ("a.parquet", "a.feather", "a.jsonl", "a.xlsx#Train"):
        pairs = read(moto, tmp_path, train_filename=name)
        assert [(pair.user, pair.chosen) for pair in pairs.train] == [("Q: Why?", "Because.")]
        assert pairs.sources[0].name == f"s3://data/answers/{name}"
    bucket.put_object(Bucket="data", Key="answers/a.parquet", Body=b"junk")
    with pytest.raises(DataError, match=r"^s3://data/answers/a.parquet: not a parquet file"):
        read(moto, tmp_path, train_filename="a.parquet")
