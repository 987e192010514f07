"""Datasets of a hub as data: splits of many files, configs, commits, and what is wrong with them; a hub answers over HTTP."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, read_pairs
from launcher.data.tables import arrow_table
from launcher.data.tables.reading import Reading
from launcher.data.tables.streamed import Streamed
from launcher.data.tables.table import place_of
from launcher.errors import CredentialError, DataError, ExperimentError, LauncherError, UnreachableError
from launcher.experiment.schema import Experiment
from launcher.packages import adding
from tests.hub.datasets import TOKEN, DataHub, DataSet

pa = pytest.importorskip("pyarrow")
pytest.importorskip("huggingface_hub")
NAME = "org/prefs"


def rows(begin: int, end: int, **changes: str) -> list[dict[str, str]]:
    return [{"prompt": f"Why {n}?", "chosen": f"so {n}", "rejected": "no", **changes} for n in range(begin, end)]


def parquet(some: list[dict[str, str]]) -> bytes:
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(some), file)
    return file.getvalue()


def jsonl(some: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in some).encode()


SHARDED = {
    "README.md": b"---\nlicense: mit\n---\n# Preferences\n",
    "data/train-00000-of-00002.parquet": parquet(rows(0, 20)),
    "data/train-00001-of-00002.parquet": parquet(rows(20, 32)),
    "data/test-00000-of-00001.parquet": parquet(rows(50, 55)),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[DataHub]:
    with DataHub({NAME: DataSet()}).serving() as hub:
        hub.sets[NAME].commit(SHARDED)
        yield hub


def read(hub: DataHub, cache: Path, path: str = f"hf://{NAME}", *, env: dict[str, str] | None = None, **settings: Any) -> Pairs:
    given = {k: v for k, v in settings.items() if k not in ("commit", "say")}
    reading = Reading(
        env={"HF_ENDPOINT": hub.url, **(env or {})}, cache=cache, **{k: v for k, v in settings.items() if k not in given}
    )
    return read_pairs(Experiment.parse({"model_name": "m", "datasets_path": path, **given}), reading)


def test_a_split_of_several_files_is_one_table_whose_rows_keep_their_file(hub: DataHub, tmp_path: Path) -> None:
    pairs = read(hub, tmp_path, validation_filename="test")
    assert [pair.user for pair in pairs.train] == [f"Why {n}?" for n in range(32)]
    assert [pair.line for pair in pairs.train] == [*range(1, 33)]
    train, held_out = pairs.sources
    about = {"name": NAME, "revision": hub.sets[NAME].refs["main"], "config": "default"}
    assert (train.name, train.rows, train.json()["hub"]) == ("org/prefs: train", 32, {**about, "split": "train"})
    assert (held_out.name, held_out.hub) == (f"{NAME}/data/test-00000-of-00001.parquet", {**about, "split": "test"})
    for name in (train.name, pickle.loads(pickle.dumps(train.name)), asdict(train)["name"]):
        assert place_of(name, 20) == f"{NAME}/data/train-00000-of-00002.parquet, row 20"
        assert place_of(name, 21) == f"{NAME}/data/train-00001-of-00002.parquet, row 1"


def test_a_split_whose_files_are_small_and_many_stays_on_disk(
    hub: DataHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = read(hub, tmp_path, validation_filename="test")
    size = sum(len(content) for name, content in SHARDED.items() if "train" in name)
    monkeypatch.setattr("launcher.data.tables.hub_table.KEPT", 3 * size - 1)
    streamed = read(hub, tmp_path, validation_filename="test")
    assert [isinstance(pairs.train, Streamed) for pairs in (kept, streamed)] == [False, True]
    assert isinstance(streamed.validation, tuple)  # one small file
    assert (tuple(streamed.train), streamed.sources) == (kept.train, kept.sources)


@pytest.mark.parametrize("kept", [0, arrow_table.KEPT])
def test_a_mistake_is_at_the_row_of_its_file(hub: DataHub, tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_table, "KEPT", kept)
    second = [*rows(20, 31), *rows(31, 32, chosen=" ")]
    hub.sets[NAME].commit({**SHARDED, "data/train-00001-of-00002.parquet": parquet(second)})
    with pytest.raises(DataError) as caught:
        read(hub, tmp_path)
    assert str(caught.value) == f"{NAME}/data/train-00001-of-00002.parquet, row 12: empty cell in column 'chosen'"


def test_json_lines_csv_and_packed_files_are_read_and_a_name_can_be_a_file(hub: DataHub, tmp_path: Path) -> None:
    table = b"prompt,chosen,rejected\nWhy 7?,so,no\n"
    files = {
        "en/train.jsonl.gz": gzip.compress(jsonl(rows(0, 2)), mtime=0),
        "de/train.jsonl": jsonl(rows(3, 5)),
        "x/seven.csv": table,
    }
    hub.sets[NAME].commit(files)
    english = read(hub, tmp_path, f"hf://datasets/{NAME}?config=en")
    assert [pair.user for pair in english.train] == ["Why 0?", "Why 1?"]
    assert english.sources[0].name == f"{NAME}/en/train.jsonl"
    hub.sets[NAME].commit({"a.parquet.gz": gzip.compress(b"PAR1", mtime=0)}, "packed")
    with pytest.raises(DataError, match=r"org/prefs/a.parquet.gz: a packed file of this format is not read"):
        read(hub, tmp_path, f"hf://{NAME}@packed", train_filename="a.parquet.gz")
    german = read(hub, tmp_path, f"hf://{NAME}?config=de", validation_filename="x/seven.csv")
    assert [pair.user for pair in (*german.train, *german.validation)] == ["Why 3?", "Why 4?", "Why 7?"]
    assert german.sources[1].hub == {**german.sources[0].hub, "config": None, "split": None}


def test_a_cards_configs_are_read_and_an_unknown_one_is_refused(hub: DataHub, tmp_path: Path) -> None:
    configs = "- config_name: a\n  data_files: [{split: train, path: a/*.jsonl}]\n- config_name: b\n  data_files: b.jsonl\n"
    card = f"---\nconfigs:\n{configs}---\n"
    hub.sets[NAME].commit({"README.md": card.encode(), "a/1.jsonl": jsonl(rows(0, 1)), "b.jsonl": jsonl(rows(1, 2))})
    assert [pair.user for pair in read(hub, tmp_path, f"hf://{NAME}?config=b").train] == ["Why 1?"]
    for path, what in ((f"hf://{NAME}", "several configs"), (f"hf://{NAME}?config=c", "no config 'c'")):
        with pytest.raises(ExperimentError) as caught:
            read(hub, tmp_path, path)
        assert str(caught.value) == (
            f"datasets_path: {what} in {NAME}\n    expected: one of its configs\n    found:    a, b\n"
            f"    hint:     datasets_path: hf://{NAME}?config=a"
        )


def test_data_in_another_format_are_read_as_the_hub_converts_them(hub: DataHub, tmp_path: Path) -> None:
    hub.sets[NAME].commit({"pairs.zip": b"PK"})
    commit = hub.sets[NAME].commit({"default/train/0000.parquet": parquet(rows(0, 2))}, "refs/convert/parquet")
    pairs = read(hub, tmp_path)
    assert (len(pairs.train), pairs.sources[0].hub) == (
        2,
        {"name": NAME, "revision": commit, "config": "default", "split": "train"},
    )
    assert read(hub, tmp_path, commit=commit).sources == pairs.sources


def test_a_revision_is_a_branch_or_a_commit_and_a_recorded_commit_wins(hub: DataHub, tmp_path: Path) -> None:
    first = hub.sets[NAME].refs["main"]
    second = hub.sets[NAME].commit({"train.jsonl": jsonl(rows(0, 1))})
    hub.sets[NAME].commit({"train.jsonl": jsonl(rows(0, 3))}, "dev")
    found = {how: len(read(hub, tmp_path, f"hf://{NAME}{how}").train) for how in ("", "@dev", f"@{first}", f"@{second}")}
    assert found == {"": 1, "@dev": 3, f"@{first}": 32, f"@{second}": 1}
    assert len(read(hub, tmp_path, commit=first).train) == 32


def test_no_file_is_downloaded_twice_and_a_commit_that_is_known_needs_no_hub(hub: DataHub, tmp_path: Path) -> None:
    first = read(hub, tmp_path)
    hub.requests.clear()
    assert read(hub, tmp_path).sources == first.sources
    assert not [one for one in hub.requests if "/resolve/" in one]
    hub.requests.clear()
    read(hub, tmp_path, commit=str(first.sources[0].hub["revision"]))
    read(hub, tmp_path, env={"HF_HUB_OFFLINE": "1"})
    assert hub.requests == []
    said: list[str] = []
    hub.status = 503
    assert read(hub, tmp_path, say=said.append).sources == first.sources
    assert len(said) == 1
    assert said[0].startswith(f"warning: the hub ({hub.url}) cannot be reached: HTTP 503")
    assert said[0].endswith(f"commit {first.sources[0].hub['revision'][:12]} of {NAME} is read from the cache")


def test_what_a_hub_does_not_have_is_the_experiments_mistake(hub: DataHub, tmp_path: Path) -> None:
    cases = {
        "hf://org/none": "dataset org/none not found on the hub",
        f"hf://{NAME}@gone": f"dataset {NAME} has no revision gone",
    }
    for path, what in cases.items():
        with pytest.raises(ExperimentError) as caught:
            read(hub, tmp_path, path)
        assert str(caught.value).startswith(f"datasets_path: {what}\n")
    with pytest.raises(ExperimentError, match="HF_HUB_OFFLINE is set"):
        read(hub, tmp_path, "hf://org/none", env={"HF_HUB_OFFLINE": "1"})
    with pytest.raises(DataError) as wrong:
        read(hub, tmp_path, train_filename="trian")
    assert str(wrong.value) == (
        f"{NAME}: no split or file 'trian', which train_filename names\n    expected: a split, or the path of a file\n"
        "    found:    test, train\n    hint:     did you mean 'train'?"
    )


def test_a_gated_data_set_needs_the_token(hub: DataHub, tmp_path: Path) -> None:
    hub.sets[NAME].is_gated = True
    with pytest.raises(CredentialError, match=rf"dataset {NAME} is gated: permission denied\n.*HF_TOKEN"):
        read(hub, tmp_path)
    assert len(read(hub, tmp_path, env={"HF_TOKEN": TOKEN}).train) == 32


def test_a_hub_that_is_away_is_unreachable(hub: DataHub, tmp_path: Path) -> None:
    hub.status = 503
    with pytest.raises(UnreachableError) as caught:
        read(hub, tmp_path)
    assert (caught.value.exit_code, str(caught.value).split(":")[0]) == (48, "the hub (http")


def test_files_of_other_columns_are_no_split(hub: DataHub, tmp_path: Path) -> None:
    other = parquet([{"prompt": "a", "good": "b", "bad": "c"}])
    hub.sets[NAME].commit({**SHARDED, "data/train-00001-of-00002.parquet": other})
    with pytest.raises(
        DataError, match=rf"train-00001-of-00002.parquet, row 1: columns differ from those in {NAME}/data/train-00000"
    ):
        read(hub, tmp_path)


def test_without_the_hubs_client_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.data.tables.hub_files.find_spec", lambda name: None)
    with pytest.raises(LauncherError, match=re.escape(f"huggingface_hub\n    hint:     {adding('huggingface_hub', 'pyarrow')}")):
        read(DataHub(), tmp_path)


@pytest.mark.parametrize("path", ["hf://", "hf://squad", "hf://a/b/c", "hf://a/b@", "hf://a/b?split=x"])
def test_another_form_of_the_name_is_refused_in_the_file(path: str) -> None:
    with pytest.raises(ValueError, match=r"hf://owner/name or hf://owner/name@revision"):
        Experiment.parse({"model_name": "m", "datasets_path": path})
