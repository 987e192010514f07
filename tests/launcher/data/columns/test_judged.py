"""Answers with a verdict, ratings or ranks become pairs, which everything that reads pairs sees alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from launcher.data.pairs import Pairs, read_other, read_pairs, write_processed
from launcher.data.tables.reading import Reading
from launcher.data.text.pair import Pair
from launcher.errors import DataError
from launcher.experiment.schema import Experiment

TWO = {"answers": ["response_a", "response_b"]}
HEAD = "prompt,response_a,response_b"


def read(
    root: Path, text: str, name: str = "training_data.csv", *, validation: str | None = None, columns: dict, **settings
) -> Pairs:
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    if validation is not None:
        (folder / "validation.csv").write_text(validation, encoding="utf-8")
        settings["validation_filename"] = "validation.csv"
    data = {"model_name": "m", "datasets_path": "data", "train_filename": name, "dpo_column_mapping_config": columns, **settings}
    return read_pairs(Experiment.parse(data), Reading(root))


def mistakes(root: Path, *args, **settings) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *args, **settings)
    return str(caught.value)


def answers(pairs: Pairs) -> list[tuple[int, str, str | None]]:
    return [(pair.line, pair.chosen, pair.rejected) for pair in pairs.train]


def test_a_winner_s_column_says_which_answer_is_chosen_and_rows_without_one_are_left_out_and_counted(tmp_path: Path) -> None:
    text = f"{HEAD},winner,rater\nQ1,x1,y1,A,me\nQ2,x2,y2,model_b,me\nQ3,x3,y3,tie,me\nQ4,x4,y4,,me\nQ5,x5,y5,tie (bothbad),me\n"
    pairs = read(tmp_path, text, columns={**TWO, "winner": "winner"})
    assert pairs.train == (Pair(None, "Q1", "x1", "y1", 2), Pair(None, "Q2", "y2", "x2", 3))
    assert pairs.notices == (
        "data/training_data.csv: column 'winner': response_a is better in 1 row, response_b in 1; 3 of 5 rows are left out: "
        "2 ties, 1 without a verdict (lines 4, 5, 6)",
        "data/training_data.csv: unused columns: rater (1 of 5)",
    )
    assert pairs.mapped == ("prompt", "response_a", "response_b", "winner")
    assert [source.rows for source in pairs.sources] == [5]


def test_ratings_choose_the_highest_and_ranks_the_lowest(tmp_path: Path) -> None:
    text = f'{HEAD},a,b\nQ1,x1,y1,4,2\nQ2,x2,y2,"1,5",2\nQ3,x3,y3,3,3.0\nQ4,x4,y4,5,\n'
    rated = read(tmp_path, text, columns={**TWO, "ratings": ["a", "b"]})
    assert answers(rated) == [(2, "x1", "y1"), (3, "y2", "x2")]
    assert rated.notices == (
        "data/training_data.csv: ratings a, b: response_a is better in 1 row, response_b in 1; 2 of 4 rows are left out: "
        "1 tie, 1 without a verdict (lines 4, 5)",
    )
    ranked = read(tmp_path, text, columns={**TWO, "ranks": ["a", "b"]})
    assert answers(ranked) == [(2, "y1", "x1"), (3, "x2", "y2")]


def test_columns_of_zeros_and_ones_for_each_winner_are_ratings(tmp_path: Path) -> None:
    text = f"{HEAD},winner_model_a,winner_model_b,winner_tie\nQ1,x1,y1,1,0,0\nQ2,x2,y2,0,1,0\nQ3,x3,y3,0,0,1\n"
    pairs = read(tmp_path, text, columns={**TWO, "ratings": ["winner_model_a", "winner_model_b"]})
    assert answers(pairs) == [(2, "x1", "y1"), (3, "y2", "x2")]


def test_of_several_rated_answers_the_best_is_chosen_and_the_worst_rejected(tmp_path: Path) -> None:
    text = "prompt,one,two,three,s1,s2,s3\nQ1,a,b,c,3,5,1\nQ2,d,e,,2,4,\nQ3,g,h,i,5,5,1\nQ4,j,k,l,2,2,2\n"
    pairs = read(tmp_path, text, columns={"answers": ["one", "two", "three"], "ratings": ["s1", "s2", "s3"]})
    assert answers(pairs) == [(2, "b", "c"), (3, "e", "d"), (4, "g", "i")]
    assert pairs.notices == (
        "data/training_data.csv: ratings s1, s2, s3: the best answer is chosen and the worst rejected in 3 rows; "
        "1 of 4 rows is left out: 1 tie (line 5)",
    )


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"answers": ["a", "b", "c"], "ratings": [3, 5, 1]}, {"answers": "answers", "ratings": "ratings"}),
        ({"answers": "['a', 'b', 'c']", "ratings": "[3 5 1]".replace(" ", ",")}, {"answers": "answers", "ratings": "ratings"}),
        (
            {"completions": [{"response": "a", "score": 3}, {"response": "b", "score": "5"}, {"response": "c", "score": 1}]},
            {"answers": "completions.response", "ratings": "completions.score"},
        ),
    ],
)
def test_answers_and_ratings_may_be_lists_in_a_cell(tmp_path: Path, row: dict, columns: dict) -> None:
    pairs = read(tmp_path, json.dumps({"prompt": "Q", **row}) + "\n", "rated.jsonl", columns=columns)
    assert answers(pairs) == [(1, "b", "c")]


def test_whole_conversations_with_a_verdict_are_conversations(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "How hot?"}
    a, b = ([asked, {"role": "assistant", "content": text}] for text in ("Hot.", "250 °C."))
    rows = [{"conversation_a": a, "conversation_b": b, "winner": winner} for winner in ("model_b", "tie")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    columns = {"answers": ["conversation_a", "conversation_b"], "winner": "winner"}
    pairs = read(tmp_path, text, "arena.jsonl", columns=columns)
    assert pairs.train == (Pair(None, "How hot?", "250 °C.", "Hot.", 1),)
    recognised = "data/arena.jsonl: recognised: whole conversations (role, content) in conversation_a and conversation_b; "
    assert pairs.notices[0].startswith(recognised)


def test_a_winner_may_be_the_better_answer_s_text(tmp_path: Path) -> None:
    text = f"{HEAD},preferred\nQ1,x1,y1,y1\nQ2,x2,y2,x2\n"
    assert answers(read(tmp_path, text, columns={**TWO, "winner": "preferred"})) == [(2, "y1", "x1"), (3, "x2", "y2")]


def test_a_value_that_names_no_answer_is_a_mistake_with_the_setting_that_says_what_it_means(tmp_path: Path) -> None:
    text = f"{HEAD},label\nQ1,x1,y1,0\nQ2,x2,y2,1\nQ3,x3,y3,0\n"
    columns = {**TWO, "winner": "label"}
    assert mistakes(tmp_path, text, columns=columns) == (
        "data/training_data.csv:2: '0' in column 'label' names no answer (2 rows)\n"
        "    expected: A, B, 1, 2, left, right, the name of a column, tie, or an empty cell\n"
        "    hint:     say what it means under dpo_column_mapping_config: winner_values: {'0': response_a, '1': response_b}"
    )
    columns["winner_values"] = {0: "response_b", 1: "response_a"}
    assert answers(read(tmp_path, text, columns=columns)) == [(2, "y1", "x1"), (3, "x2", "y2"), (4, "y3", "x3")]


def test_a_scale_around_zero_is_explained_from_the_first_answer_to_the_second(tmp_path: Path) -> None:
    text = f"{HEAD},label\nQ1,x1,y1,-2\nQ2,x2,y2,2\nQ3,x3,y3,0\nQ4,x4,y4,-1\n"
    said = mistakes(tmp_path, text, columns={**TWO, "winner": "label"})
    assert "winner_values: {'-2': response_a, '-1': response_a, '0': tie}" in said
    values = {"-2": "response_a", "-1": "response_a", "0": "tie", "2": "response_b"}
    pairs = read(tmp_path, text, columns={**TWO, "winner": "label", "winner_values": values})
    assert answers(pairs) == [(2, "x1", "y1"), (3, "y2", "x2"), (5, "x4", "y4")]


def test_ratings_that_cannot_be_compared_are_mistakes_at_their_rows(tmp_path: Path) -> None:
    said = mistakes(tmp_path, f"{HEAD},a,b\nQ1,x1,y1,fine,2\n", columns={**TWO, "ratings": ["a", "b"]})
    assert said == (
        "data/training_data.csv:2: not a number in column 'a'\n"
        "    expected: a number, true or false, a word such as good, bad, yes, no, up or down, or an empty cell\n"
        "    found:    fine"
    )
    said = mistakes(tmp_path, f"{HEAD},a,b\nQ1,x1,y1,good,2\n", columns={**TWO, "ranks": ["a", "b"]})
    assert said.endswith("    expected: a number, or an empty cell\n    found:    good")
    said = mistakes(tmp_path, f"{HEAD},a\nQ1,x1,y1,4\n", columns={**TWO, "ratings": "a"})
    assert said.startswith("data/training_data.csv:2: no list in column 'a'\n    expected: a list such as")
    listed = '{"prompt": "Q", "answers": ["a", "b"], "ratings": [1, 2, 3]}\n'
    said = mistakes(tmp_path, listed, "rated.jsonl", columns={"answers": "answers", "ratings": "ratings"})
    assert (
        said
        == "data/rated.jsonl:1: another number of ratings than of answers in column 'ratings'\n    expected: 2\n    found:    3"
    )


def test_a_missing_column_is_a_mistake_at_the_setting_that_names_it(tmp_path: Path) -> None:
    said = mistakes(tmp_path, f"{HEAD},winner\nQ1,x1,y1,A\n", columns={**TWO, "winner": "winer"})
    assert said == (
        "dpo_column_mapping_config.winner: missing column 'winer' in data/training_data.csv:1\n"
        "    found:    prompt, response_a, response_b, winner\n    hint:     did you mean 'winner'?"
    )


def test_a_header_between_the_rows_is_named_as_such(tmp_path: Path) -> None:
    text = f"{HEAD},winner\nQ1,x1,y1,A\nPrompt,Response_A,Response_B,Winner\n"
    said = mistakes(tmp_path, text, columns={**TWO, "winner": "winner"})
    assert said == "data/training_data.csv:3: the header again\n    hint:     delete the row"


def test_a_table_of_ties_has_no_pairs(tmp_path: Path) -> None:
    said = mistakes(tmp_path, f"{HEAD},winner\nQ1,x1,y1,tie\nQ2,x2,y2,\n", columns={**TWO, "winner": "winner"})
    assert said == (
        "data/training_data.csv: no row says which answer is better (column 'winner')\n    found:    1 tie, 1 without a verdict"
    )


def test_the_rules_name_the_better_answer_by_the_columns_that_it_may_come_from(tmp_path: Path) -> None:
    said = mistakes(tmp_path, f"{HEAD},winner\nQ1,x1,,A\n", columns={**TWO, "winner": "winner"})
    assert said == "data/training_data.csv:2: empty cell in column 'worse of response_a, response_b'"


def test_validation_pairs_are_judged_alike_whether_they_are_held_out_a_file_or_scored_later(tmp_path: Path) -> None:
    rows = "".join(f"Q{n},x{n},y{n},{'AB'[n % 2]}\n" for n in range(20)) + "Q99,x,y,tie\n"
    held = read(tmp_path, f"{HEAD},winner\n{rows}", columns={**TWO, "winner": "winner"}, validation_split=0.1)
    assert [len(held.train), len(held.validation)] == [18, 2]
    assert held.rows == {"data/training_data.csv": 21}
    assert all((pair.chosen[0] == "x") == (int(pair.chosen[1:]) % 2 == 0) for pair in (*held.train, *held.validation))
    other = f"{HEAD},winner\nV,x,y,B\nW,x,y,tie\n"
    both = read(tmp_path, f"{HEAD},winner\n{rows}", validation=other, columns={**TWO, "winner": "winner"})
    assert [(pair.user, pair.chosen) for pair in both.validation] == [("V", "y")]
    experiment = Experiment.parse(
        {"model_name": "m", "datasets_path": "data", "dpo_column_mapping_config": {**TWO, "winner": "winner"}}
    )
    assert both.prompt is not None
    later = read_other(experiment, tmp_path / "data" / "validation.csv", both.prompt)
    assert [(pair.user, pair.chosen) for pair in later.validation] == [("V", "y")]


def test_sft_learns_the_better_answers(tmp_path: Path) -> None:
    pairs = read(tmp_path, f"{HEAD},winner\nQ1,x1,y1,B\n", columns={**TWO, "winner": "winner"}, method="sft")
    assert answers(pairs) == [(2, "y1", None)]


def test_the_pairs_are_written_as_they_are_trained_on(tmp_path: Path) -> None:
    pairs = read(tmp_path, f"{HEAD},winner\nQ1,x1,y1,B\n", columns={**TWO, "winner": "winner"})
    [file] = write_processed(pairs, tmp_path / "out")
    assert json.loads(file.read_text()) == {"system": None, "user": "Q1", "chosen": "y1", "rejected": "x1", "line": 2}


def test_a_table_too_large_for_memory_is_judged_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    monkeypatch.setattr("launcher.data.tables.arrow_table.KEPT", 0)
    (tmp_path / "data").mkdir()
    columns = {"prompt": ["Q1", "Q2", "Q3"], "answers": [["a", "b"], ["c", "d"], ["e", "f"]], "ratings": [[1, 2], [3, 3], [4, 1]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "data" / "rated.parquet")
    mapped = {"answers": "answers", "ratings": "ratings"}
    data = {"model_name": "m", "datasets_path": "data", "train_filename": "rated.parquet", "dpo_column_mapping_config": mapped}
    pairs = read_pairs(Experiment.parse(data), Reading(tmp_path))
    assert not isinstance(pairs.train, tuple)
    assert [(len(pairs.train), [(pair.chosen, pair.rejected) for pair in pairs.train]) for _ in "12"] == [
        (2, [("b", "a"), ("e", "f")])
    ] * 2


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"answers": ["a", "b"]}, "sets answers but none of winner, ratings and ranks, which say which answer is better"),
        ({"winner": "w"}, "sets winner without answers; name the columns that it compares: answers: [response_a, response_b]"),
        (
            {**TWO, "winner": "w", "chosen": "c"},
            "sets answers and chosen: the better of answers is chosen; keep one",
        ),
        ({**TWO, "winner": "w", "ratings": ["a", "b"]}, "sets winner and ratings; keep one"),
        (
            {"answers": ["a", "b", "c"], "winner": "w"},
            "sets winner for 3 answers: winner compares two; set ratings or ranks for more",
        ),
        ({**TWO, "ratings": ["a", "b", "c"]}, "has 2 answers and 3 ratings; name one column for each answer"),
        ({**TWO, "winner": "w", "winner_values": {"0": "a"}}, "sets winner_values with 'a', which is neither one of answers"),
        ({**TWO, "ratings": ["a", "b"], "winner_values": {"0": "a"}}, "sets winner_values without winner"),
    ],
)
def test_settings_that_do_not_belong_together_are_mistakes(tmp_path: Path, columns: dict, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Experiment.parse({"model_name": "m", "datasets_path": "data", "dpo_column_mapping_config": columns})
    assert [one["msg"].startswith(said) for one in caught.value.errors()] == [True]
