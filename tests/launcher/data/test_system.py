"""A column of system messages: each row has its own, before its prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.data.pairs import Pairs, read_pairs
from launcher.data.prompt import Prompt
from launcher.data.prompts import read_prompts
from launcher.data.tables.reading import Reading
from launcher.data.text.chat import Chat
from launcher.data.text.pair import Pair
from launcher.errors import DataError
from launcher.experiment.schema import Experiment

HEAD = "persona,prompt,chosen,rejected\n"
ROWS = HEAD + "You are a baker.,How hot?,250 °C.,Hot.\n,How long?,An hour.,Long.\n"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def answer(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "assistant", "content": text},)


def experiment(**columns: object) -> Experiment:
    mapping = {"system": "persona", **columns}
    return Experiment.parse({"model_name": "m", "datasets_path": "data", "dpo_column_mapping_config": mapping})


def read(root: Path, text: str, prompts: str | None = None, **columns: object) -> Pairs:
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "training_data.csv").write_text(text, encoding="utf-8")
    if prompts is not None:
        (root / "data" / "prompt_data.csv").write_text(prompts, encoding="utf-8")
    return read_pairs(experiment(**columns), Reading(root))


def test_each_row_s_system_message_comes_before_its_prompt_and_an_empty_cell_is_none(tmp_path: Path) -> None:
    pairs = read(tmp_path, ROWS)
    assert [pair.chat for pair in pairs.train] == [
        Chat((system("You are a baker."), user("How hot?")), answer("250 °C."), answer("Hot.")),
        None,
    ]
    assert pairs.train[1] == Pair(None, "How long?", "An hour.", "Long.", 3)
    assert pairs.notices == ("data/training_data.csv: 1 of 2 rows have a system message of their own",)
    assert pairs.mapped == ("prompt", "chosen", "rejected", "persona")


def test_the_pair_is_that_of_a_list_of_messages(tmp_path: Path) -> None:
    first = read(tmp_path, ROWS).train[0]
    row = {"prompt": [system("You are a baker."), user("How hot?")], "chosen": "250 °C.", "rejected": "Hot."}
    (tmp_path / "data" / "talks.jsonl").write_text(json.dumps(row), encoding="utf-8")
    settings = {"model_name": "m", "datasets_path": "data", "train_filename": "talks.jsonl"}
    assert [replace(pair, line=2) for pair in read_pairs(Experiment.parse(settings), Reading(tmp_path)).train] == [first]


def test_where_a_row_has_none_that_of_the_prompt_table_holds(tmp_path: Path) -> None:
    pairs = read(tmp_path, ROWS, "name,system,user\nprompt_default,Be kind.,Question: {prompt}\n")
    first, second = pairs.train
    assert first.chat is not None
    assert (first.system, first.chat.prompt) == (None, (system("You are a baker."), user("Question: How hot?")))
    assert (second.system, second.user, second.chat) == ("Be kind.", "Question: How long?", None)
    assert pairs.notices == (
        "data/training_data.csv: 1 of 2 rows have a system message of their own, which replaces the prompt table's",
    )


def test_a_list_of_messages_keeps_a_system_message_of_its_own(tmp_path: Path) -> None:
    talks = [[user("Hot?")], [system("Be brief."), user("Long?")]]
    rows = [[f'"{json.dumps(talk)}"'.replace('"', '""')[1:-1], "a", "b", "You are a baker."] for talk in talks]
    text = "prompt,chosen,rejected,persona\n" + "".join(",".join(row) + "\n" for row in rows)
    prompts = [pair.chat.prompt for pair in read(tmp_path, text).train if pair.chat is not None]
    assert prompts == [(system("You are a baker."), user("Hot?")), (system("Be brief."), user("Long?"))]


def test_one_question_under_two_system_messages_is_no_contradiction(tmp_path: Path) -> None:
    text = HEAD + "Be formal.,Hi,Good day.,Yo.\nBe casual.,Hi,Yo.,Good day.\n"
    assert read(tmp_path, text).notices == ("data/training_data.csv: 2 of 2 rows have a system message of their own",)


def test_the_rules_look_into_the_column_and_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="formula error in column 'persona'"):
        read(tmp_path, HEAD + "#REF!,Hi,a,b\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path, "prompt,chosen,rejected\nHi,a,b\n")
    assert str(caught.value).startswith(
        "dpo_column_mapping_config.system: missing column 'persona' in data/training_data.csv:1\n"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("asked.csv", "prompt,persona\nHow hot?,You are a baker.\nHow long?,\n"),
        ("asked.jsonl", '{"prompt": "How hot?", "persona": "You are a baker."}\n{"prompt": "How long?"}\n'),
    ],
)
def test_prompts_to_answer_have_theirs_too(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_prompts(tmp_path / name, experiment(), Prompt("Be kind.", ("", "prompt", "")))
    [(_, first), (_, second)] = found.messages
    assert (first, second) == ("system: You are a baker.\n\nuser: How hot?", "How long?")
    assert [chat["messages"] for chat in found.chats.values()] == [(system("You are a baker."), user("How hot?"))]


def test_prompts_to_answer_may_lack_the_column(tmp_path: Path) -> None:
    (tmp_path / "asked.csv").write_text("prompt\nHow hot?\n", encoding="utf-8")
    found = read_prompts(tmp_path / "asked.csv", experiment(), Prompt(None, ("", "prompt", "")))
    assert (found.messages, found.chats) == (((2, "How hot?"),), {})
