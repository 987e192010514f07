"""The cells of a worksheet become rows, and every mistake has the place that Sheets' name box goes to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.data.pairs import Pairs, Source, read_pairs
from launcher.data.tables.reading import Reading
from launcher.data.tables.sheet_table import letter, sheet_table
from launcher.data.tables.sheets.spreadsheet import Spreadsheet, Worksheet
from launcher.data.tables.table import Row
from launcher.errors import DataError, ExperimentError, Mistake
from launcher.experiment.schema import Experiment

Cells = Sequence[Sequence[str]]
HEADER = ["prompt", "chosen", "rejected"]
ROW = ["a", "b", "c"]


def table(*cells: Sequence[str], title: str = "Train"):  # type: ignore[no-untyped-def]
    mistakes: list[Mistake] = []
    found = sheet_table(Worksheet("train", title, tuple(tuple(row) for row in cells)), mistakes)
    return found if found is not None else [str(mistake) for mistake in mistakes]


def pairs(tmp_path: Path, train: Cells, prompts: Cells | None = None, **settings: object) -> Pairs:
    """What is made of a copy with these cells."""
    sheets = [Worksheet("train", "Train", tuple(tuple(row) for row in train))]
    if prompts is not None:
        sheets.append(Worksheet("prompts", "Anna's prompts", tuple(tuple(row) for row in prompts)))
        settings["prompt_sheet"] = "Anna's prompts"
    (tmp_path / "read").mkdir()
    for name, text in Spreadsheet("1abc", "2026-11-24T10:11:12+00:00", tuple(sheets)).files.items():
        (tmp_path / "read" / name).write_text(text)
    given = {"model_name": "m", "spreadsheet_id": "1abc", "train_sheet": "Train", **settings}
    return read_pairs(Experiment.parse(given), Reading(copy=tmp_path / "read"))


def mistakes(tmp_path: Path, train: Cells, prompts: Cells | None = None) -> str:
    with pytest.raises(DataError) as caught:
        pairs(tmp_path, train, prompts)
    assert caught.value.exit_code == 43
    return str(caught.value)


def test_rows_know_the_row_of_the_sheet_and_end_as_sheets_ends_them() -> None:
    found = table([], HEADER, ["a", "b", "c"], [], ["", " "], ["d", "e"], ["f", "g", "h", "", ""])
    assert found.line == 2
    assert found.rows == (
        Row(3, {"prompt": "a", "chosen": "b", "rejected": "c"}),
        Row(6, {"prompt": "d", "chosen": "e", "rejected": ""}),
        Row(7, {"prompt": "f", "chosen": "g", "rejected": "h"}),
    )


def test_a_column_that_only_sets_others_apart_is_passed_over() -> None:
    found = table(["prompt", "", "chosen", "rejected"], ["a", "", "b", "c"])
    assert found.columns == ("prompt", "chosen", "rejected")
    assert found.place(2, "chosen") == "Train!C2"
    assert found.rows == (Row(2, {"prompt": "a", "chosen": "b", "rejected": "c"}),)


def test_names_that_are_repeated_and_cells_without_a_name_are_mistakes_at_their_cells() -> None:
    assert table(["prompt", "chosen", "chosen", ""], ["a", "b", "c"], ["a", "b", "c", "d", "e"], title="Held out") == [
        "'Held out'!C1: duplicate column 'chosen'\n    found:    also 'Held out'!B1",
        "'Held out'!D1: column D has no name\n"
        "    expected: a name in every header cell\n"
        "    found:    cells below it, the first at 'Held out'!D3",
        "'Held out'!E1: column E has no name\n"
        "    expected: a name in every header cell\n"
        "    found:    cells below it, the first at 'Held out'!E3",
    ]


@pytest.mark.parametrize("cells", [[], [[], ["", " "]]])
def test_a_worksheet_without_cells_is_a_mistake(cells: list[list[str]]) -> None:
    assert table(*cells) == ["worksheet Train: the worksheet is empty\n    expected: a header row and rows below it"]


def test_a_header_alone_is_a_mistake() -> None:
    assert table([], HEADER, [""]) == ["Train!2:2: no rows below the header\n    expected: at least one row"]


def test_columns_have_the_letters_of_a_sheet() -> None:
    assert [letter(n) for n in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_pairs_of_worksheets_are_those_of_files_and_their_sources_are_named(tmp_path: Path) -> None:
    prompts = [["name", "system", "user"], ["prompt_default", "", "Q: {prompt}"]]
    found = pairs(tmp_path, [HEADER, ["a", "b", "c"], [], ["d", "e", "f"]], prompts)
    assert [(p.user, p.chosen, p.rejected, p.line) for p in found.train] == [("Q: a", "b", "c", 2), ("Q: d", "e", "f", 4)]
    assert found.spreadsheet is not None
    assert found.sources == (
        Source("train", "worksheet Train", found.spreadsheet.worksheets[0].sha256, 2),
        Source("prompts", "worksheet 'Anna''s prompts'", found.spreadsheet.worksheets[1].sha256, 1),
    )


def test_a_title_above_a_table_that_begins_in_another_column_is_named() -> None:
    [said] = table([], ["", "Ratings of March"], ["", "Frage", "Gute\nAntwort", "Schlechte"], ["", "a", "b", "c"])
    assert said == (
        "Train!2:2: a title above the header\n    expected: a header\n    found:    Ratings of March\n"
        "    hint:     delete the lines above row 3, which has the names of the columns"
    )


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([[], HEADER, [], ROW, ["", " "], [], ROW, [], ROW, []], "4 empty rows between others are ignored (rows 3, 5, 6 …)"),
        ([HEADER, ROW, [], ROW], "1 empty row between others is ignored (row 3)"),
        ([[], HEADER, ROW, [], []], None),
    ],
)
def test_empty_rows_between_others_are_counted_with_the_first_places(cells: list[list[str]], said: str | None) -> None:
    assert table(*cells).ignored == (() if said is None else (f"worksheet Train: {said}",))


def test_every_mistake_of_a_cell_has_its_place(tmp_path: Path) -> None:
    rows = [HEADER, ["a", "b"], ["c", "#REF!", "d"], ["e", "Loading...", "f"], ["g\x07", "h", "i"], ["j", "k", "k"]]
    assert mistakes(tmp_path, rows) == (
        "Train!C2: empty cell in column 'rejected'\n"
        "Train!B3: a formula error in column 'chosen'\n"
        "    found:    #REF!\n"
        "    hint:     fix the formula in the spreadsheet\n"
        "    also at:  Train!B4\n"
        "Train!A5: control character in column 'prompt'\n"
        "    expected: text, line breaks and tabs\n    found:    U+0007 at character 2 of the cell\n"
        "Train!6:6: chosen and rejected are equal\n    hint:     change or delete the row: it states no preference"
    )


def test_mistakes_of_the_header_and_of_prompts_have_their_places(tmp_path: Path) -> None:
    prompts = [["name", "system", "user"], ["prompt_default", "{prompt}", "{query}"], ["", "", "x"], ["prompt_default", "", "x"]]
    said = mistakes(tmp_path, [["prompt", "Chosen", "rejected"], ["a", "b", "c"]], prompts)
    assert [line for line in said.splitlines() if not line.startswith("    ")] == [
        "'Anna''s prompts'!A3: the prompt has no name",
        "'Anna''s prompts'!A4: duplicate prompt name 'prompt_default'",
        "'Anna''s prompts'!B2: system contains the placeholder {prompt}",
        "'Anna''s prompts'!C2: {query} in the user template has no column: "
        "add `query: <column>` to input_columns (it has: prompt)",
        "'Anna''s prompts'!C2: the user template does not use {prompt}, which input_columns maps to 'prompt'",
        "Train!1:1: missing column 'chosen'",
    ]
    assert "first used at 'Anna''s prompts'!A2" in said


def test_settings_that_need_a_prompt_table_name_the_sheets_setting(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"hint: {5}set prompt_sheet"):
        pairs(tmp_path, [HEADER, ["a", "b", "c"]], prompt_name="other")
