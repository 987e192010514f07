import codecs
import csv
import gzip
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.data.tables.reading import Reading
from launcher.data.tables.rows import read_tables
from launcher.data.tables.table import Row, Table
from launcher.errors import DataError, ExperimentError, StorageError
from launcher.experiment.schema import Experiment


def experiment(**settings):
    return Experiment.parse({"model_name": "m", "datasets_path": "data", **settings})


def read(root: Path, content: bytes | str, **settings):
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    (folder / "training_data.csv").write_bytes(content)
    return read_tables(experiment(**settings), Reading(root))


def mistakes(root: Path, content: bytes | str, **settings) -> str:
    with pytest.raises(DataError) as caught:
        read(root, content, **settings)
    assert caught.value.exit_code == 43
    return str(caught.value)


def cells(root: Path, content: bytes | str) -> list[tuple[int, dict]]:
    return [(row.line, dict(row.cells)) for row in read(root, content).train.rows]


def test_a_file_becomes_rows_that_know_their_line(tmp_path):
    content = 'prompt,chosen\nHi,"two\nlines, and ""quotes"""\n\nBye,x\n'
    assert read(tmp_path, content).train == Table(
        name="data/training_data.csv",
        columns=("prompt", "chosen"),
        rows=(Row(2, {"prompt": "Hi", "chosen": 'two\nlines, and "quotes"'}), Row(5, {"prompt": "Bye", "chosen": "x"})),
        sha256=hashlib.sha256(content.encode()).hexdigest(),
    )


def test_every_named_file_is_read_and_the_prompt_file_is_found_by_its_usual_name(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "held_out.csv").write_text("a\nv\n")
    (folder / "prompt_data.csv").write_text("name,system,user\np,,{a}\n")
    tables = read(tmp_path, "a\nt\n", validation_filename="held_out.csv")
    assert [t.name for t in (tables.train, tables.validation, tables.prompts)] == [
        "data/training_data.csv",
        "data/held_out.csv",
        "data/prompt_data.csv",
    ]


def test_a_data_folder_below_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "training_data.csv").write_text("a\nt\n")
    tables = read_tables(experiment(datasets_path="~/mine"), Reading(tmp_path / "elsewhere"))
    assert tables.train.rows == (Row(2, {"a": "t"}),)


def test_without_validation_and_prompt_files_there_are_none(tmp_path):
    tables = read(tmp_path, "a\nt\n")
    assert tables.validation is None
    assert tables.prompts is None


def test_a_data_folder_outside_the_root_keeps_its_own_name(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "training_data.csv").write_text("a\nt\n")
    table = read_tables(experiment(datasets_path=str(elsewhere)), Reading(tmp_path / "root")).train
    assert table.name == str(elsewhere / "training_data.csv")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_newlines_delimiters_and_a_byte_order_mark_make_no_difference(tmp_path, newline, delimiter, bom):
    lines = ["a,b", "1,2", "", "é,4", "   "]
    content = bom + newline.join(line.replace(",", delimiter) for line in lines)
    assert cells(tmp_path, content) == [(2, {"a": "1", "b": "2"}), (4, {"a": "é", "b": "4"})]


def test_a_header_with_commas_is_split_at_commas_whatever_else_it_holds(tmp_path):
    assert read(tmp_path, 'a;b,"c\td"\n1,2\n').train.columns == ("a;b", "c\td")


def test_a_comma_inside_quotes_does_not_choose_the_delimiter(tmp_path):
    assert read(tmp_path, '"a,b";c\n1;2\n').train.columns == ("a,b", "c")


def test_blank_lines_before_the_header_count_as_lines(tmp_path):
    table = read(tmp_path, "\n  \na,b\n1,2\n").train
    assert (table.line, table.columns, table.rows[0].line) == (3, ("a", "b"), 4)


def test_a_cell_of_a_megabyte_is_read(tmp_path):
    assert cells(tmp_path, f'a,b\n{"x" * 2**20},"y"\n') == [(2, {"a": "x" * 2**20, "b": "y"})]


def test_a_blank_cell_of_a_table_with_one_column_is_a_row(tmp_path):
    assert cells(tmp_path, "a\n \nx\n") == [(2, {"a": " "}), (3, {"a": "x"})]


@given(
    columns=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")).filter(str.strip), min_size=2, unique=True
    ),
    data=st.data(),
    bom=st.booleans(),
)
def test_any_text_that_csv_writes_is_read_back_as_it_was(tmp_path_factory, columns, data, bom):
    cell = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    rows = data.draw(st.lists(st.lists(cell, min_size=len(columns), max_size=len(columns)), min_size=1))
    rows.append(["x"] * len(columns))  # empty rows at the end are ignored
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    table = read(tmp_path_factory.mktemp("root"), ("\ufeff" if bom else "") + text.getvalue()).train
    assert table.columns == tuple(columns)
    assert [list(row.cells.values()) for row in table.rows] == rows
    starts = [1]
    for row in [columns, *rows]:
        starts.append(starts[-1] + sum(len(c.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1 for c in row) + 1)
    assert [row.line for row in table.rows] == starts[1:-1]


def test_a_missing_file_is_reported_with_what_is_there_and_the_nearest_name(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("trainings_data.csv", "held_out.csv", "notes.txt"):
        (folder / name).touch()
    with pytest.raises(DataError) as caught:
        read_tables(experiment(), Reading(tmp_path))
    assert str(caught.value) == (
        "data/training_data.csv: file not found\n"
        "    found:    the folder has held_out.csv, trainings_data.csv\n"
        "    hint:     did you mean 'trainings_data.csv'?"
    )


def test_for_a_missing_validation_file_the_training_file_is_not_suggested(tmp_path):
    training = "prompt,chosen,rejected\na,b,c\n"
    with pytest.raises(DataError) as caught:
        read(tmp_path, training, validation_filename="validation_data.csv")
    assert str(caught.value) == (
        "data/validation_data.csv: file not found\n"
        "    found:    the folder has training_data.csv\n"
        "    hint:     to hold out training pairs for it, write validation_split: 0.1 in place of validation_filename"
    )
    (tmp_path / "data" / "validation.csv").write_text(training)
    with pytest.raises(DataError, match=r"hint:     did you mean 'validation\.csv'\?$"):
        read(tmp_path, training, validation_filename="validation_data.csv")


def test_a_missing_folder_is_reported_with_the_nearest_one(tmp_path):
    (tmp_path / "date").mkdir()
    with pytest.raises(DataError) as caught:
        read_tables(experiment(), Reading(tmp_path))
    assert str(caught.value) == (
        "data: folder not found (datasets_path)\n"
        "    expected: a folder with training_data.csv\n"
        "    hint:     did you mean 'date'?"
    )


def test_a_name_of_the_hub_without_its_scheme_is_told_the_scheme(tmp_path):
    with pytest.raises(DataError) as caught:
        read_tables(experiment(datasets_path="org/prefs"), Reading(tmp_path))
    assert str(caught.value).endswith("    hint:     for a dataset on the hub write hf://org/prefs")


@pytest.mark.parametrize("path", ["data/my_preferences", "datasets/mine"])
def test_a_missing_folder_below_data_as_init_writes_it_is_not_taken_for_a_name_of_the_hub(tmp_path, path):
    with pytest.raises(DataError) as caught:
        read_tables(experiment(datasets_path=path), Reading(tmp_path))
    assert str(caught.value) == f"{path}: folder not found (datasets_path)\n    expected: a folder with training_data.csv"


def test_a_file_in_place_of_the_folder_is_reported(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(DataError, match="datasets_path is a file, not a folder"):
        read_tables(experiment(), Reading(tmp_path))


def test_a_folder_in_place_of_a_file_is_reported(tmp_path):
    (tmp_path / "data" / "training_data.csv").mkdir(parents=True)
    with pytest.raises(DataError, match=r"data/training_data\.csv: cannot read the file: is a directory"):
        read_tables(experiment(), Reading(tmp_path))


def test_text_that_is_not_utf_8_is_reported_at_its_line_and_byte(tmp_path):
    assert mistakes(tmp_path, b"\xef\xbb\xbfa,b\r\n1,caf\xe9\r\n") == (
        "data/training_data.csv:2: the file is not UTF-8\n"
        "    expected: UTF-8\n"
        "    found:    byte 0xe9 at offset 13\n"
        "    hint:     save it as CSV UTF-8"
    )


def test_nul_bytes_are_counted_and_the_first_is_shown(tmp_path):
    assert mistakes(tmp_path, b"a,b\n1,x\0y\0\n") == (
        "data/training_data.csv:2:4: the file contains NUL bytes\n"
        "    expected: text\n"
        "    found:    2, the first one here\n"
        "    hint:     the file is damaged or not text; save it again as CSV UTF-8"
    )


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (zipped(), "an Excel workbook or a zip archive"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (gzip.compress(b"a,b", mtime=0), "a gzip archive"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, found):
    assert f"not a CSV file\n    expected: CSV text in UTF-8\n    found:    {found}" in mistakes(tmp_path, content)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_utf_16_that_says_so_is_read_and_damaged_utf_16_is_a_mistake(tmp_path, mark):
    content = mark + "prompt\tchosen\tä\n1\t2\t🙂\n".encode("utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be")
    assert read(tmp_path, content).train.rows[0].cells == {"prompt": "1", "chosen": "2", "ä": "🙂"}
    assert mistakes(tmp_path, content[:-1]).startswith("data/training_data.csv: the file begins as UTF-16 but is not\n")


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", "  \n"])
def test_an_empty_file_is_a_mistake(tmp_path, content):
    assert mistakes(tmp_path, content) == (
        "data/training_data.csv: the file is empty\n    expected: a header line and rows below it"
    )


def test_a_header_without_rows_is_a_mistake(tmp_path):
    assert mistakes(tmp_path, "\na,b\n\n") == (
        "data/training_data.csv:2: no rows below the header\n    expected: at least one row"
    )


def test_names_that_are_empty_or_repeated_are_reported_in_their_cell(tmp_path):
    assert mistakes(tmp_path, 'id,"a ""b"", c",,id\n1,2,3,4\n') == (
        "data/training_data.csv:1:17: column 3 has no name\n"
        "    expected: a name in every header cell\n"
        "data/training_data.csv:1:18: duplicate column 'id'\n"
        "    found:    also column 1"
    )


def test_every_row_that_does_not_fit_the_header_is_reported(tmp_path):
    assert mistakes(tmp_path, 'a,b\n1\n1,2\n1,2,3\n1, "x, y"\n') == (
        "data/training_data.csv:2: wrong number of cells\n"
        "    expected: 2 cells\n"
        "    found:    1 cells\n"
        "data/training_data.csv:4: wrong number of cells\n"
        "    expected: 2 cells\n"
        "    found:    3 cells\n"
        "    hint:     put cells that contain a ',' into double quotes\n"
        "data/training_data.csv:5: wrong number of cells\n"
        "    expected: 2 cells\n"
        "    found:    3 cells\n"
        "    hint:     remove the space before the quote"
    )


def test_an_unclosed_quote_is_reported_where_it_begins(tmp_path):
    assert mistakes(tmp_path, 'a,b\n"1\n2","x\n3,4\n5,6\n') == (
        "data/training_data.csv:3:4: this quote is never closed\n"
        '    | 2","x\n'
        "    |    ^\n"
        '    hint:     write "" for a quote inside a cell'
    )


def test_a_quote_that_the_next_quoted_cell_seems_to_close_is_reported_where_it_begins(tmp_path):
    assert mistakes(tmp_path, 'a,b\n1,"x\n2,"y"\n3\n') == (
        "data/training_data.csv:2:3: text after the closing quote of this cell\n"
        '    | 1,"x\n'
        "    |   ^\n"
        '    hint:     write "" for a quote inside a cell, or add the missing closing quote'
    )


def test_a_quoting_mistake_within_a_line_does_not_hide_the_next_one(tmp_path):
    report = mistakes(tmp_path, 'a,b\n1,"x"y\n2\n3,"x" \n')
    assert [line.split(": ")[0] for line in report.splitlines() if line.startswith("data")] == [
        "data/training_data.csv:2:3",
        "data/training_data.csv:3",
    ]
    assert "    also at:  data/training_data.csv:4:3\n" in report


def test_a_quoting_mistake_in_the_header_makes_no_header_of_the_next_line(tmp_path):
    report = mistakes(tmp_path, '"a"x,b\n1,1\n')
    assert [line for line in report.splitlines() if line.startswith("data")] == [
        "data/training_data.csv:1:1: text after the closing quote of this cell"
    ]


def test_mistakes_of_all_files_come_together(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prompt_data.csv").write_text("name\n")
    report = mistakes(tmp_path, "a,a\n1,2\n", validation_filename="none.csv")
    assert [line.split(": ")[0] for line in report.splitlines() if line.startswith("data")] == [
        "data/training_data.csv:1:3",
        "data/none.csv",
        "data/prompt_data.csv:1",
    ]


def test_a_web_address_is_no_folder(tmp_path):
    with pytest.raises(ExperimentError) as caught:
        read_tables(experiment(datasets_path="https://example.org/data"), Reading(tmp_path))
    assert str(caught.value) == (
        "datasets_path: must be a folder, s3://bucket/folder or hf://owner/name\n"
        "    found:    https://example.org/data\n"
        "    hint:     download the files first"
    )


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("https://docs.google.com/spreadsheets/d/1aBcDeFgHiJkLmNoPqRsTuV/edit#gid=0", "the id is 1aBcDeFgHiJkLmNoPqRsTuV"),
        ("my answers", "the id is between /d/ and /edit in the spreadsheet's address"),
    ],
)
def test_what_is_no_id_of_a_spreadsheet_is_refused_before_anybody_is_asked(tmp_path, given, hint):
    with pytest.raises(ExperimentError) as caught:
        read_tables(experiment(datasets_path=None, spreadsheet_id=given, train_sheet="Train"), Reading(tmp_path))
    assert str(caught.value) == (
        "spreadsheet_id: not a spreadsheet id\n"
        "    expected: letters, digits, '-' and '_'\n"
        f"    found:    {given}\n"
        f"    hint:     {hint}"
    )


def test_reading_files_of_this_machine_loads_no_client():
    code = "import sys, launcher.data.pairs; print(sorted({'gspread', 'google', 'requests', 'boto3'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_disk_that_fails_is_no_mistake_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_data.csv").symlink_to("/proc/self/mem")  # reading its first byte is an I/O error
    experiment = Experiment.parse({"experiment_id": "1", "model_name": "a/b", "datasets_path": "data"})
    with pytest.raises(StorageError) as caught:
        read_tables(experiment, Reading(tmp_path))
    assert str(caught.value) == "data/training_data.csv: cannot read the file: input/output error"
