"""The rules of the rows, as `check` and the trainer apply them, and as the experiment sets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import DataError, Warned
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.data_checks import DataChecks
from launcher.experiment.sections.data_rules import DATA_RULES

HEADER = "prompt,chosen,rejected\n"


def read(root: Path, text: str, **checks: Any) -> Pairs:
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "training_data.csv").write_text(text, encoding="utf-8", newline="")
    return read_pairs(Experiment.parse({"model_name": "m", "datasets_path": "data", "data_checks": checks}), Reading(root))


def mistakes(root: Path, text: str, **checks: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, text, **checks)
    return str(caught.value)


def test_every_rule_has_its_setting_with_its_action() -> None:
    assert list(DataChecks.model_fields) == list(DATA_RULES)
    checks = DataChecks()
    assert {name: checks.action(name) for name in DATA_RULES} == {name: rule.action for name, rule in DATA_RULES.items()}


def test_an_error_names_each_place_and_a_warning_counts_and_names_the_first_three(tmp_path: Path) -> None:
    rows = "".join(f"Question {n}?,nan,Answer {n}\n" for n in range(5))
    found = read(tmp_path, HEADER + rows).notices
    assert found == (
        "data/training_data.csv: 5 of 5 cells in column 'chosen' are only a word for a missing value (lines 2, 3, 4 …); "
        "delete these rows, or fill them in",
    )
    assert isinstance(found[0], Warned)
    assert mistakes(tmp_path, HEADER + rows, missing_word="error") == (
        "data/training_data.csv:2: a word for a missing value in column 'chosen'\n"
        "    found:    nan\n"
        "    hint:     delete these rows, or fill them in\n"
        "    also at:  data/training_data.csv:3, data/training_data.csv:4 … (5 times in all)"
    )


@pytest.mark.parametrize("action", ["off", False])
def test_a_rule_that_is_off_finds_nothing(tmp_path: Path, action: Any) -> None:
    assert read(tmp_path, HEADER + "Question?,nan,b\n", missing_word=action).notices == ()


def test_an_error_may_be_made_a_warning(tmp_path: Path) -> None:
    pairs = read(tmp_path, HEADER + "Question?,#N/A,b\n", formula_error="warn")
    assert pairs.train[0].chosen == "#N/A"
    assert len(pairs.notices) == 1


def test_a_formula_s_error_is_refused_in_a_file_as_in_a_worksheet(tmp_path: Path) -> None:
    assert mistakes(tmp_path, HEADER + "Question?,#REF!,b\n") == (
        "data/training_data.csv:2: a formula error in column 'chosen'\n"
        "    found:    #REF!\n"
        "    hint:     fix the formula in the spreadsheet"
    )


def test_pairs_that_prefer_the_opposite_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + "Where?,here,there\nWho?,a,b\nWhere?,there,here\n").notices
    assert found == (
        "data/training_data.csv: 2 of 3 training pairs contradict another one (opposite preference) (lines 2, 4); "
        "keep the right one",
    )


def test_answers_that_are_equal_in_unicode_s_normal_form_state_no_preference(tmp_path: Path) -> None:
    assert "chosen and rejected are equal" in mistakes(tmp_path, HEADER + "Who?,Zoe\u0308,Zo\u00eb\n")


def test_answers_that_differ_only_in_a_space_without_width_are_warned_of(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + "Who?,Zoe\u200b Miller,Zoe Miller\n").notices
    assert [sentence.split("1 of 1 ")[1].split(" (")[0] for sentence in found] == [
        "cells in column 'chosen' contain a zero-width space",
        "rows have answers that differ only in white space",
    ]


def test_a_cell_without_a_visible_character_is_empty(tmp_path: Path) -> None:
    assert mistakes(tmp_path, HEADER + "Where?,\u200b\u200b,Somewhere\nWho?,a,b\n").startswith(
        "data/training_data.csv:2: empty cell in column 'chosen'"
    )


def test_a_header_in_the_middle_is_named_though_a_byte_order_mark_stands_before_it(tmp_path: Path) -> None:
    assert mistakes(tmp_path, f"{HEADER}Where?,a,b\n\ufeff{HEADER}Who?,c,d\n") == (
        "data/training_data.csv:3: the header again\n    hint:     delete the row"
    )


def test_answers_that_begin_with_the_prompt_are_warned_of_and_short_prompts_are_not(tmp_path: Path) -> None:
    rows = "Human: Where? AI:,Human: Where? AI: here,Human: Where? AI: there\nHi,Hi Ann,Hi you\n"
    (sentence,) = read(tmp_path, HEADER + rows).notices
    assert sentence.startswith("data/training_data.csv: 1 of 2 training pairs have an answer that repeats the prompt (line 2)")


def test_a_cell_of_excel_s_length_was_cut_and_a_larger_one_than_the_threshold_is_refused(tmp_path: Path) -> None:
    (sentence,) = read(tmp_path, f"{HEADER}Where?,{'x' * 32_767},b\n").notices
    assert "1 of 1 cells in column 'chosen' have exactly 32,767 characters, which is Excel's limit: they were cut" in sentence
    text = mistakes(tmp_path, f"{HEADER}Where?,{'x' * 2001},b\n", huge_cell={"action": "error", "threshold": 0.002})
    assert text.startswith("data/training_data.csv:2: a cell of more than 0.002 MB in column 'chosen'")


def test_messages_in_a_column_of_texts_are_refused(tmp_path: Path) -> None:
    cell = "\"[{'content': 'Where?', 'role': 'user'}]\""
    assert "a list of messages as text in column 'chosen'\n    found:    1 message" in mistakes(
        tmp_path, f"{HEADER}Hi?,a,b\nHo?,{cell},b\n"
    )


def test_what_spreadsheets_leave_around_a_table_is_ignored_and_said_once(tmp_path: Path) -> None:
    pairs = read(tmp_path, "sep=;\n;prompt;chosen;rejected;;\n0;Where?;a;b;;\n1;Who?;c;d;;\n;;;;;\n;;;;;\n")
    assert [(pair.user, pair.line) for pair in pairs.train] == [("Where?", 3), ("Who?", 4)]
    assert pairs.notices == (
        "data/training_data.csv: 2 empty rows at the end are ignored",
        "data/training_data.csv: 2 columns without name and cells are ignored",
        "data/training_data.csv: the first column, which has no name and counts the rows, is ignored",
    )


def test_a_title_above_the_header_is_named(tmp_path: Path) -> None:
    for title in ("Preferences of May", "Preferences of May,,"):
        assert mistakes(tmp_path, f"{title}\n{HEADER}Where?,a,b\n") == (
            "data/training_data.csv:1: a title above the header\n"
            "    expected: a header\n"
            "    found:    Preferences of May\n"
            "    hint:     delete the lines above line 2, which has the names of the columns"
        )


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("Preferences, collected in May, by Ann\n", 2),
        ('"Preferences, collected in May",,\n,,\n', 3),
        ("Preferences,,\nVersion 2,,\nby Ann,,\n", 4),
    ],
)
def test_a_title_of_several_cells_or_lines_is_named_with_the_line_of_the_header(tmp_path: Path, title: str, line: int) -> None:
    text = mistakes(tmp_path, f"{title}{HEADER}Where?,a,b\n")
    assert text.startswith(
        "data/training_data.csv:1: a title above the header\n    expected: a header\n    found:    Preferences"
    )
    assert text.endswith(f"hint:     delete the lines above line {line}, which has the names of the columns")


def test_a_header_of_other_names_is_no_title_of_the_row_below_it(tmp_path: Path) -> None:
    mapping = {"input_columns": {"prompt": "prompt"}, "chosen": "good", "rejected": "bad"}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training_data.csv").write_text("prompt,good,bad\nquestion,chosen,rejected\n")
    settings = {"model_name": "m", "datasets_path": "data", "dpo_column_mapping_config": mapping}
    assert [pair.chosen for pair in read_pairs(Experiment.parse(settings), Reading(tmp_path)).train] == ["chosen"]


def test_a_header_in_the_middle_is_named_in_any_case_and_with_blanks(tmp_path: Path) -> None:
    text = mistakes(tmp_path, f"{HEADER}Where?,a,b\nPROMPT,Chosen , rejected\nWho?,c,d\n")
    assert text.startswith("data/training_data.csv:3: the header again")


def test_an_answer_with_the_prompt_inside_is_warned_of_and_a_topic_in_it_is_not(tmp_path: Path) -> None:
    rows = "Where is the bakery?,Q: Where is the bakery? A: here,there\nRye bread and rolls,I like Rye bread and rolls,No.\n"
    (sentence,) = read(tmp_path, HEADER + rows).notices
    assert sentence.startswith("data/training_data.csv: 1 of 2 training pairs have an answer that repeats the prompt (line 2)")


@pytest.mark.parametrize("cell", ["\u2800", "\u3164", "\u200e", "\u2063", "\u3000\u00a0", "\ufe0f"])
def test_a_cell_of_characters_that_nobody_sees_is_empty(tmp_path: Path, cell: str) -> None:
    assert mistakes(tmp_path, f"{HEADER}Where?,{cell},b\n") == "data/training_data.csv:2: empty cell in column 'chosen'"


def test_a_header_of_one_column_is_no_title_where_a_cell_lacks_its_quotes(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "prompt\nHello, world\n").startswith("data/training_data.csv:2: wrong number of cells")


@pytest.mark.parametrize("header", ["Prompt,Chosen,Rejected", " prompt , chosen , rejected ", "PROMPT,Chosen ,REJECTED"])
def test_a_header_in_another_case_or_with_blanks_is_suggested(tmp_path: Path, header: str) -> None:
    text = mistakes(tmp_path, f"{header}\nWhere?,a,b\n")
    assert text.count("hint:     did you mean ") == 3
