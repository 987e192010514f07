"""Rows with one rated answer each become pairs: the best and the worst answer to a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.data.pairs import Pairs, read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import DataError
from launcher.experiment.schema import Experiment
from tests.workbooks import workbook

RATED = {"answers": "answer", "ratings": "label"}
HEAD = "prompt,answer,label\n"


def read(root: Path, text: str | bytes, name: str = "rated.csv", columns: dict | None = None, **settings) -> Pairs:
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    (folder / name.partition("#")[0]).write_bytes(text if isinstance(text, bytes) else text.encode())
    mapping = {"dpo_column_mapping_config": columns or RATED}
    data = {"model_name": "m", "datasets_path": "data", "train_filename": name, **mapping, **settings}
    return read_pairs(Experiment.parse(data), Reading(root))


def mistakes(root: Path, *args, **settings) -> str:
    with pytest.raises(DataError) as caught:
        read(root, *args, **settings)
    return str(caught.value)


def answers(pairs: Pairs) -> list[tuple[int, str, str, str | None]]:
    return [(pair.line, pair.user, pair.chosen, pair.rejected) for pair in pairs.train]


def test_the_best_and_the_worst_answer_to_a_prompt_are_a_pair_and_prompts_without_one_are_counted(tmp_path: Path) -> None:
    text = f"{HEAD}Q1,bad1,1\nQ2,only,5\nQ1,good1,5\nQ1,so,3\nQ3,x,2\nQ3,y,2\nQ1,unsaid,\nQ4,z4,2\n Q4 ,a4,1.5\n"
    pairs = read(tmp_path, text)
    assert answers(pairs) == [(4, "Q1", "good1", "bad1"), (9, "Q4", "z4", "a4")]
    assert pairs.notices == (
        "data/rated.csv: ratings label: 2 pairs from 9 rows, each the best and the worst answer to a prompt; "
        "2 of 4 prompts have no pair: 1 with one rated answer, 1 whose answers are rated alike (lines 3, 6); "
        "1 row without a rating left out",
    )
    assert [source.rows for source in pairs.sources] == [9]
    assert pairs.mapped == ("prompt", "answer", "label")


@pytest.mark.parametrize(
    ("good", "bad"),
    [("True", "False"), ("1", "0"), ("1", "-1"), ("thumbs_up", "thumbs_down"), ("👍🏽", "👎"), ("Good", "bad"), ("4/5", "3/5"),
     (":thumbsup:", ":thumbsdown:"), ("chosen", "rejected"), ("desirable", "undesirable")],
)  # fmt: skip
def test_a_rating_may_be_a_number_a_word_or_a_thumb(tmp_path: Path, good: str, bad: str) -> None:
    assert answers(read(tmp_path, f"{HEAD}Q,a,{bad}\nQ,b,{good}\n")) == [(3, "Q", "b", "a")]


def test_of_ranks_the_lowest_is_the_best(tmp_path: Path) -> None:
    found = read(tmp_path, f"{HEAD}Q,a,2\nQ,b,1\nQ,c,3\n", columns={"answers": "answer", "ranks": "label"})
    assert answers(found) == [(3, "Q", "b", "c")]


def test_an_answer_that_several_people_rate_counts_with_its_mean(tmp_path: Path) -> None:
    pairs = read(tmp_path, f"{HEAD}Q,a,5\nQ,a,1\nQ,b,4\nQ,b,4\nQ,a,3\n")
    assert answers(pairs) == [(4, "Q", "b", "a")]
    assert pairs.notices[0].endswith("to a prompt; 2 answers with several ratings: the mean counts")


def test_the_prompt_is_all_that_the_model_reads_before_the_answer(tmp_path: Path) -> None:
    text = "task,input,persona,answer,label\nDo,1,x,a,1\nDo,2,x,b,0\nDo,1,y,c,0\nDo,1,x,d,0\n"
    inputs = {"input_columns": {"task": "task", "input": "input"}, "system": "persona"}
    pairs = read(tmp_path, text, columns={**RATED, **inputs})
    assert [(pair.chosen, pair.rejected) for pair in pairs.train] == [("a", "d")]


def test_whole_conversations_share_all_messages_before_the_last_one(tmp_path: Path) -> None:
    def talk(asked: str, said: str) -> list[dict[str, str]]:
        return [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]

    rows = [(talk("Q1", "a"), True), (talk("Q2", "b"), True), (talk("Q1", "c"), False)]
    text = "".join(json.dumps({"messages": messages, "label": label}) + "\n" for messages, label in rows)
    pairs = read(tmp_path, text, "kto.jsonl", columns={"answers": "messages", "ratings": "label"})
    assert answers(pairs) == [(1, "Q1", "a", "c")]


def test_conversations_without_a_pair_are_one_mistake(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "a"}], "label": 1}
    said = mistakes(tmp_path, json.dumps(row) + "\n", "kto.jsonl", columns={"answers": "messages", "ratings": "label"})
    assert said.startswith("data/kto.jsonl: no prompt has a better and a worse answer")
    assert "missing" not in said


def test_prompts_and_answers_may_be_messages(tmp_path: Path) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": "Q"}], "answer": [{"role": "assistant", "content": said}], "label": said == "a"}
        for said in "ba"
    ]
    assert answers(read(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "kto.jsonl")) == [(2, "Q", "a", "b")]


def test_one_answer_to_each_prompt_is_told_what_to_do(tmp_path: Path) -> None:
    assert mistakes(tmp_path, f"{HEAD}Q1,a,1\nQ2,b,0\nQ3,c,\n") == (
        "data/rated.csv: no prompt has a better and a worse answer (ratings label)\n"
        "    found:    3 with one rated answer each, of 3 prompts\n"
        "    hint:     DPO compares two answers to one prompt: add rows with another answer to the same prompts, or keep the "
        "rows with good answers and learn these alone (method: sft, chosen: answer)"
    )


def test_what_cannot_be_read_is_a_mistake_at_its_cell(tmp_path: Path) -> None:
    text = f"{HEAD}Q,a,so so\nQ,,1\n,b,0\nprompt,Answer,label\n,,\nQ,c,1\n"
    assert mistakes(tmp_path, text) == (
        "data/rated.csv:2: not a number in column 'label'\n"
        "    expected: a number, true or false, a word such as good, bad, yes, no, up or down, or an empty cell\n"
        "    found:    so so\n"
        "data/rated.csv:3: empty cell in column 'answer'\n"
        "data/rated.csv:4: empty cell in column 'prompt'\n"
        "data/rated.csv:5: the header again\n"
        "    hint:     delete the row\n"
        "data/rated.csv:6: empty row\n"
        "    hint:     delete it"
    )


def test_a_fault_of_the_worse_answer_is_named_at_its_own_row(tmp_path: Path) -> None:
    text = f"{HEAD}Q,a,1\nQ,b,2\n".replace(",a,", ",a\x07,")
    assert mistakes(tmp_path, text).startswith("data/rated.csv:2: control character in column 'worst of answer'")
    sheet = workbook({"S": [["prompt", "answer", "label"], ["Q", "#REF!", 1], ["Q", "b", 2]]})
    assert mistakes(tmp_path, sheet, "rated.xlsx#S").startswith(
        "data/rated.xlsx#S!B2: a formula error in column 'worst of answer'"
    )


def test_a_table_without_prompts_lacks_its_column(tmp_path: Path) -> None:
    said = mistakes(tmp_path, "question,answer,label\nQ,a,1\nQ,b,0\n")
    assert said.startswith("data/rated.csv:1: missing column 'prompt'\n    found:    question, answer, label\n")


@given(st.lists(st.tuples(st.sampled_from("PQ"), st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=8))
def test_a_pair_is_of_one_prompt_and_its_chosen_answer_has_the_higher_mean(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    means: dict[tuple[str, str], float] = {}
    for prompt, answer, _ in rows:
        ratings = [rating for one, other, rating in rows if (one, other) == (prompt, answer)]
        means[prompt, answer] = sum(ratings) / len(ratings)
    expected = {prompt for prompt, _ in means if len({mean for (one, _), mean in means.items() if one == prompt}) > 1}
    text = HEAD + "".join(f"{prompt},{answer},{rating}\n" for prompt, answer, rating in rows)
    try:
        found = read(tmp_path_factory.mktemp("root"), text).train
    except DataError:
        found = ()
    assert {pair.user for pair in found} == expected
    for pair in found:
        of_prompt = [mean for (prompt, _), mean in means.items() if prompt == pair.user]
        assert (means[pair.user, pair.chosen], means[pair.user, pair.rejected or ""]) == (max(of_prompt), min(of_prompt))
