"""What was read is kept so that it is read again exactly, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.data.tables.sheets.spreadsheet import Spreadsheet, Worksheet, bundle, check_same, has_copy, read_copy, unpack
from launcher.errors import DataError

CELLS = (("prompt", "chosen"), ('line\nbreak, "quotes"\t\u2028', "é 🙂"), (), ("", "x"))
FOUND = Spreadsheet("1abc", "2026-11-24T10:11:12+00:00", (Worksheet("train", "Train", CELLS), Worksheet("prompts", "P's", ())))


def keep(folder: Path) -> Path:
    folder.mkdir()
    for name, text in FOUND.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_copy_is_what_was_read(tmp_path: Path) -> None:
    assert read_copy(keep(tmp_path / "read")) == FOUND


def test_the_manifest_says_what_was_read_when_and_with_which_hash_and_is_written_last(tmp_path: Path) -> None:
    assert list(FOUND.files) == ["train.jsonl", "prompts.jsonl", "spreadsheet.json"]
    assert json.loads(FOUND.files["spreadsheet.json"]) == {
        "id": "1abc",
        "read": "2026-11-24T10:11:12+00:00",
        "worksheets": [
            {"role": "train", "title": "Train", "rows": 4, "sha256": FOUND.worksheets[0].sha256},
            {"role": "prompts", "title": "P's", "rows": 0, "sha256": FOUND.worksheets[1].sha256},
        ],
    }
    assert not has_copy(tmp_path)
    assert has_copy(keep(tmp_path / "read"))


def test_a_copy_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = keep(tmp_path / "read")
    (folder / "train.jsonl").write_text('["prompt", "chosen"]\n')
    with pytest.raises(DataError) as caught:
        read_copy(folder)
    assert str(caught.value).startswith(f"{folder}/train.jsonl: the snapshot of the spreadsheet was changed\n    expected: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [("train.jsonl", '["prompt"'), ("spreadsheet.json", "{}"), ("spreadsheet.json", "["), ("train.jsonl", "\xff")],
)
def test_a_copy_that_cannot_be_read_is_refused(tmp_path: Path, name: str, text: str) -> None:
    folder = keep(tmp_path / "read")
    (folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="cannot read the snapshot of the spreadsheet"):
        read_copy(folder)


def test_a_copy_of_other_worksheets_is_refused(tmp_path: Path) -> None:
    check_same(FOUND, "1abc", {"train": "Train", "prompts": "P's"}, tmp_path)
    with pytest.raises(DataError) as caught:
        check_same(FOUND, "1abc", {"train": "Train 2"}, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: the snapshot has other worksheets than the experiment\n"
        "    expected: 'Train 2' (train) of spreadsheet 1abc\n"
        "    found:    'Train' (train), \"P's\" (prompts) of spreadsheet 1abc"
    )


def test_a_copy_travels_as_one_text(tmp_path: Path) -> None:
    (tmp_path / "read.json").write_text(bundle(FOUND), encoding="utf-8")
    unpack(tmp_path / "read.json", tmp_path / "read")
    assert read_copy(tmp_path / "read") == FOUND


@pytest.mark.parametrize("text", ["[]", "{", "{}"])
def test_what_is_no_bundle_is_refused_and_leaves_no_copy(tmp_path: Path, text: str) -> None:
    (tmp_path / "read.json").write_text(text)
    with pytest.raises(DataError, match="cannot unpack the snapshot of the spreadsheet"):
        unpack(tmp_path / "read.json", tmp_path / "read")
    assert not has_copy(tmp_path / "read")
