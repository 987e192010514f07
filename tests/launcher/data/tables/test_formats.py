"""The shapes in which people have their pairs: JSON, Parquet, Arrow and workbooks, beside CSV."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.data.pairs import Pairs, read_pairs
from launcher.data.tables.reading import Reading
from launcher.data.text.pair import Pair
from launcher.errors import DataError
from launcher.experiment.schema import Experiment
from tests.workbooks import workbook

RECORDS = [{"prompt": "Where?", "chosen": "here", "rejected": "there"}, {"prompt": "Who?", "chosen": "Ann", "rejected": "3"}]
PAIRS = (("Where?", "here", "there"), ("Who?", "Ann", "3"))


def read(root: Path, name: str, data: bytes) -> Pairs:
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / name.partition("#")[0]).write_bytes(data)
    return read_pairs(Experiment.parse({"model_name": "m", "datasets_path": "data", "train_filename": name}), Reading(root))


def mistakes(root: Path, name: str, data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(root, name, data)
    return str(caught.value)


def texts(pairs: Sequence[Pair]) -> tuple[tuple[str, str, str | None], ...]:
    return tuple((pair.user, pair.chosen, pair.rejected) for pair in pairs)


@pytest.mark.parametrize("name", ["train.jsonl", "train.ndjson", "train.json"])
def test_json_lines_are_rows_with_the_lines_of_the_file(tmp_path: Path, name: str) -> None:
    data = (json.dumps(RECORDS[0]) + "\n\n" + json.dumps({**RECORDS[1], "rejected": 3}) + "\n").encode()
    found = read(tmp_path, name, data)
    assert (texts(found.train), [pair.line for pair in found.train]) == (PAIRS, [1, 3])
    assert found.sources[0].sha256 == hashlib.sha256(data).hexdigest()


def test_a_json_list_is_rows_with_the_lines_where_they_begin(tmp_path: Path) -> None:
    found = read(tmp_path, "train.json", json.dumps(RECORDS, indent=1).encode())
    assert (texts(found.train), [pair.line for pair in found.train]) == (PAIRS, [2, 7])


@pytest.mark.parametrize("around", [{"data": RECORDS}, {"version": "1.1", "data": RECORDS}, {"pairs": RECORDS}])
def test_a_list_inside_an_object_is_rows_with_their_lines(tmp_path: Path, around: dict) -> None:
    found = read(tmp_path, "train.json", json.dumps(around, indent=1).encode())
    assert (texts(found.train), found.train[1].line - found.train[0].line) == (PAIRS, 5)
    one_line = read(tmp_path, "train.json", json.dumps(around).encode())
    assert texts(one_line.train) == PAIRS


def test_one_record_whose_prompt_is_a_list_is_no_list_of_records(tmp_path: Path) -> None:
    record = {"prompt": [{"role": "user", "content": "Where?"}], "chosen": "here", "rejected": "there"}
    assert texts(read(tmp_path, "train.json", json.dumps(record).encode()).train) == PAIRS[:1]


def test_columns_in_place_of_rows_are_told_how_pandas_writes_rows(tmp_path: Path) -> None:
    columns = {name: {"0": "a", "1": "b"} for name in ("prompt", "chosen", "rejected")}
    assert mistakes(tmp_path, "train.json", json.dumps(columns).encode()) == (
        "data/train.json: an object for each column, as pandas writes them, and no rows\n"
        "    hint:     write rows: frame.to_json(FILE, orient='records', lines=True)"
    )


def test_what_is_wrong_in_json_has_its_line(tmp_path: Path) -> None:
    lines = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": }\n[1]\n{"prompt": "x", "prompt": "y"}\n'
    assert mistakes(tmp_path, "train.jsonl", lines) == (
        "data/train.jsonl:2:12: not JSON: expecting value\n"
        "data/train.jsonl:3: not an object\n"
        '    expected: an object such as {"prompt": …}\n'
        "    found:    list\n"
        "data/train.jsonl:4: not JSON: key 'prompt' is there twice"
    )
    assert mistakes(tmp_path, "train.json", b'[{"prompt": "a"}\n,\n{"prompt": "b"} x').startswith(
        "data/train.json:3: the list does not end here"
    )
    assert mistakes(tmp_path, "empty.jsonl", b"\n").startswith("data/empty.jsonl: the file is empty")
    assert mistakes(tmp_path, "train.jsonl", b'{"a": "\xff"}').startswith("data/train.jsonl:1: the file is not UTF-8")


def test_a_record_without_a_key_has_an_empty_cell(tmp_path: Path) -> None:
    data = "\n".join(
        json.dumps(one) for one in ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, {"prompt": "Ho", "chosen": None})
    )
    assert mistakes(tmp_path, "train.jsonl", data.encode()) == (
        "data/train.jsonl:2: empty cell in column 'chosen'\ndata/train.jsonl:2: empty cell in column 'rejected'"
    )


def test_messages_in_json_are_refused_in_a_column_of_texts_as_in_a_cell(tmp_path: Path) -> None:
    plain = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    data = "\n".join(json.dumps(one) for one in (plain, {**plain, "chosen": [{"role": "assistant", "content": "a"}]}))
    assert "a list of messages as text in column 'chosen'" in mistakes(tmp_path, "train.jsonl", data.encode())


@pytest.mark.parametrize("name", ["train.parquet", "train.arrow", "train.feather"])
def test_columns_of_parquet_and_arrow_are_read_and_places_are_rows(tmp_path: Path, name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    table, file = pa.Table.from_pylist(RECORDS), io.BytesIO()
    parquet.write_table(table, file) if name.endswith("parquet") else feather.write_feather(table, file)
    assert texts(read(tmp_path, name, file.getvalue()).train) == PAIRS
    table, file = pa.Table.from_pylist([*RECORDS, {"prompt": "Why?", "chosen": "", "rejected": "b"}]), io.BytesIO()
    parquet.write_table(table, file) if name.endswith("parquet") else feather.write_feather(table, file)
    assert mistakes(tmp_path, name, file.getvalue()) == f"data/{name}, row 3: empty cell in column 'chosen'"
    assert mistakes(tmp_path, name, b"junk").startswith(f"data/{name}: not a {name.partition('.')[2]} file")


def test_the_places_of_a_warning_do_not_repeat_the_name_of_the_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    words = [{"prompt": f"Why {n}?", "chosen": "nan", "rejected": "b" if n else "None"} for n in range(4)]
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(words), file)
    of_parquet = " ".join(read(tmp_path, "train.parquet", file.getvalue()).notices)
    assert "in column 'chosen' are only a word for a missing value (rows 1, 2, 3 …); " in of_parquet
    assert "in column 'rejected' are only a word for a missing value (row 1); " in of_parquet
    sheet = workbook({"Train": [list(words[0]), *(list(one.values()) for one in words[:2])]})
    assert "in column 'chosen' are only a word for a missing value (B2, B3); " in " ".join(
        read(tmp_path, "p.xlsx", sheet).notices
    )


def test_a_stream_of_arrow_is_read_too(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    table, file = pa.Table.from_pylist(RECORDS), io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    assert texts(read(tmp_path, "train.arrow", file.getvalue()).train) == PAIRS


def test_a_worksheet_of_a_workbook_is_named_behind_its_file(tmp_path: Path) -> None:
    train = [["prompt", "chosen", "rejected"], ["Where?", "here", "there"], ["Who?", "Ann", 3]]
    data = workbook({"Notes": [["x"]], "Train": train})
    found = read(tmp_path, "pairs.xlsx#Train", data)
    assert texts(found.train) == PAIRS
    assert found.sources[0].name == "data/pairs.xlsx#Train"
    assert found.sources[0].sha256 == hashlib.sha256(data).hexdigest()
    assert texts(read(tmp_path, "one.xlsx", workbook({"Only": train})).train) == PAIRS


def test_what_is_wrong_in_a_workbook_has_its_cell(tmp_path: Path) -> None:
    train = [["prompt", "chosen", "rejected"], ["Where?", None, "there"]]
    data = workbook({"Train": train, "Notes": [["x"]]})
    assert mistakes(tmp_path, "pairs.xlsx#Train", data) == "data/pairs.xlsx#Train!B2: empty cell in column 'chosen'"
    assert mistakes(tmp_path, "pairs.xlsx", data) == (
        "data/pairs.xlsx: 2 worksheets\n"
        "    expected: one worksheet\n"
        "    found:    Train, Notes\n"
        "    hint:     name one of them: pairs.xlsx#Train"
    )
    assert "no worksheet 'Trian'\n    found:    Train, Notes\n    hint:     did you mean 'Train'?" in mistakes(
        tmp_path, "pairs.xlsx#Trian", data
    )
    assert mistakes(tmp_path, "pairs.xlsx", b"PK\x03\x04junk").startswith("data/pairs.xlsx: not a workbook")


def test_a_prompt_that_only_the_first_of_several_rows_of_a_worksheet_has_is_told_as_merged_cells(tmp_path: Path) -> None:
    def told(*rows: Sequence[str]) -> str:
        return mistakes(tmp_path, "pairs.xlsx#Train", workbook({"Train": [("prompt", "chosen", "rejected"), *rows]}))

    assert told(("Where?", "here", "there"), ("", "here now", "over there"), ("Who?", "", "b")) == (
        "data/pairs.xlsx#Train!A3: empty cell in column 'prompt'\n"
        "    hint:     write it into each row: of merged cells only the first has the text\n"
        "data/pairs.xlsx#Train!B4: empty cell in column 'chosen'"
    )
    assert "merged" not in told(("", "here", "there"), ("Where?", "here", "there")), "nothing is above the first row"
    csv = b"prompt,chosen,rejected\nWhere?,here,there\n,here now,over there\n"
    assert "merged" not in mistakes(tmp_path, "pairs.csv", csv), "a CSV file has no merged cells"


def test_the_text_of_merged_cells_is_that_of_each_of_their_rows(tmp_path: Path) -> None:
    head, row = ["prompt", "chosen", "rejected"], ["Where?", "here", "there"]
    rows = [head, row, [None, "there", "here"], [None, "up", "down"], ["Who?", "Ann", "3"]]
    found = read(tmp_path, "merged.xlsx", workbook({"S": rows}, ["A2:A4", "A1:B1"]))
    assert [(pair.user, pair.line) for pair in found.train] == [("Where?", 2), ("Where?", 3), ("Where?", 4), ("Who?", 5)]
    assert "data/merged.xlsx#S: 1 merged cell is read in each of their rows (A2:A4)" in found.notices
    assert mistakes(tmp_path, "plain.xlsx", workbook({"S": rows})).startswith(
        "data/plain.xlsx#S!A3: empty cell in column 'prompt'"
    )


def test_of_two_rows_of_names_the_upper_one_is_to_be_deleted(tmp_path: Path) -> None:
    rows = [["", "Answers", "", "Judgement"], ["Frage", "Modell A", "Modell B", "Besser"], ["Where?", "here", "there", "A"]]
    hint = "has the names of the columns, delete what is above it"
    assert f"    hint:     if row 2 {hint}" in mistakes(tmp_path, "two.xlsx", workbook({"S": rows}))
    text = "\n".join(",".join(row) for row in rows)
    assert f"    hint:     if line 2 {hint}" in mistakes(tmp_path, "two.csv", text.encode())
    for below in (["1", "2", "3", "4"], ["a", "a", "b", "c"], ["a sentence, and no name of a column " * 2, "a", "b", "c"]):
        assert "hint" not in mistakes(tmp_path, "one.xlsx", workbook({"S": [rows[0], below]}))
