"""Conversations: how lists of messages are recognised, read and refused, from any kind of file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, read_pairs, write_processed
from launcher.data.survey import survey
from launcher.data.tables.reading import Reading
from launcher.data.text.chat import Chat
from launcher.data.text.pair import Pair
from launcher.errors import DataError, Warned
from launcher.experiment.schema import Experiment

Record = Mapping[str, Any]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "You are brief."}
TURNS = [user("Where is it?"), assistant("At Linden Square."), user("And when?")]
GOOD, BAD = assistant("At nine."), assistant("Some day.")
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "map", "arguments": "{}"}}],
}
FOUND = {"role": "tool", "name": "map", "content": "Linden Square"}
TOOLS = [{"type": "function", "function": {"name": "map", "parameters": {"type": "object", "properties": {}}}}]


def read(root: Path, records: Sequence[Record] | str, name: str = "train.jsonl", **settings: Any) -> Pairs:
    text = records if isinstance(records, str) else "".join(json.dumps(one) + "\n" for one in records)
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / name).write_text(text, encoding="utf-8", newline="")
    named = {"model_name": "m", "datasets_path": "data", "train_filename": name, **settings}
    return read_pairs(Experiment.parse(named), Reading(root))


def mistakes(root: Path, records: Sequence[Record] | str, name: str = "train.jsonl", **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, records, name, **settings)
    return str(caught.value)


def as_csv(records: Sequence[Record], write: Any = json.dumps) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(records[0])
    writer.writerows([[one if isinstance(one, str) else write(one) for one in record.values()] for record in records])
    return text.getvalue()


def mapping(**columns: Any) -> dict[str, Any]:
    return {"dpo_column_mapping_config": columns}


EXPLICIT = {"prompt": [SYSTEM, *TURNS], "chosen": [GOOD], "rejected": [BAD]}
CHAT = Chat((SYSTEM, *TURNS), (GOOD,), (BAD,))


def test_prompt_and_answers_are_lists_of_messages_and_a_person_reads_them_by_role(tmp_path: Path) -> None:
    pairs = read(tmp_path, [EXPLICIT])
    (pair,) = pairs.train
    assert pair.chat == CHAT
    assert pair.user == ("system: You are brief.\n\nuser: Where is it?\n\nassistant: At Linden Square.\n\nuser: And when?")
    assert (pair.system, pair.chosen, pair.rejected, pair.line) == (None, "At nine.", "Some day.", 1)
    assert pairs.notices == (
        "data/train.jsonl: recognised: lists of messages (role, content) in prompt, chosen and rejected; "
        "4 messages before an answer",
    )


@pytest.mark.parametrize(
    "write", [json.dumps, str, lambda one: str(one).replace("}, {", "}\n {")], ids=["json", "python", "numpy"]
)
def test_a_cell_of_csv_holds_messages_as_json_or_as_pandas_writes_them(tmp_path: Path, write: Any) -> None:
    assert [pair.chat for pair in read(tmp_path, as_csv([EXPLICIT], write), "train.csv").train] == [CHAT]


@pytest.mark.parametrize("name", ["train.parquet", "train.arrow"])
def test_lists_of_structs_are_read_without_the_nulls_of_other_messages(tmp_path: Path, name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    def called(zoom: int | None) -> dict[str, Any]:
        function = {"name": "map", "arguments": {"of": "it", "zoom": zoom}}
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}

    call, other = called(None), called(2)
    record = {"prompt": [user("Where?")], "chosen": [call, FOUND, GOOD], "rejected": [other, FOUND, BAD]}
    table, file = pa.Table.from_pylist([record]), io.BytesIO()
    parquet.write_table(table, file) if name.endswith("parquet") else feather.write_feather(table, file)
    (tmp_path / name).write_bytes(file.getvalue())
    experiment = Experiment.parse({"model_name": "m", "datasets_path": str(tmp_path), "train_filename": name})
    (pair,) = read_pairs(experiment, Reading(tmp_path)).train
    assert pair.chat is not None
    calls = [{"type": "function", "function": {"name": "map", "arguments": {"of": "it"}}}]
    assert pair.chat.chosen == ({**call, "tool_calls": calls}, FOUND, GOOD)
    assert pair.chat.rejected == (other, FOUND, BAD)


def test_one_question_with_plain_answers_is_a_pair_of_texts(tmp_path: Path) -> None:
    pairs = read(tmp_path, [{"prompt": [user("When?")], "chosen": GOOD, "rejected": [BAD]}])
    assert pairs.train == (Pair(None, "When?", "At nine.", "Some day.", 1),)


def test_what_both_answers_begin_with_is_the_prompt(tmp_path: Path) -> None:
    record = {"prompt": "And when?", "chosen": [*TURNS, GOOD], "rejected": [*TURNS, BAD]}
    pairs = read(tmp_path, [record])
    assert [pair.chat for pair in pairs.train] == [Chat(tuple(TURNS), (GOOD,), (BAD,))]
    assert pairs.notices == (
        "data/train.jsonl: recognised: whole conversations (role, content) in chosen and rejected; "
        "the messages that chosen and rejected share are the prompt; 3 messages before an answer",
    )
    del record["prompt"]
    assert read(tmp_path, [record]).train == pairs.train


def test_trl_finds_the_same_prompt_in_both_answers(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from trl.data_utils import extract_prompt

    record = {"chosen": [SYSTEM, *TURNS, CALL | {"content": ""}, FOUND, GOOD], "rejected": [SYSTEM, *TURNS, BAD]}
    theirs = extract_prompt(record)
    (pair,) = read(tmp_path, [record]).train
    assert pair.chat is not None
    assert [dict(one) for one in pair.chat.prompt] == theirs["prompt"]
    assert len(pair.chat.chosen) == len(theirs["chosen"])
    assert [dict(one) for one in pair.chat.rejected or ()] == theirs["rejected"]


def test_a_prompt_that_is_not_in_the_conversations_is_a_warning(tmp_path: Path) -> None:
    record = {"prompt": "Who?", "chosen": [*TURNS, GOOD], "rejected": [*TURNS, BAD]}
    warning = read(tmp_path, [record]).notices[-1]
    assert warning == (
        "data/train.jsonl: in 1 of 1 rows 'prompt' is no message of the conversations in chosen and rejected, "
        "and is not used (line 1)"
    )
    assert isinstance(warning, Warned)


def test_answers_that_repeat_a_prompt_of_messages_are_what_follows_it(tmp_path: Path) -> None:
    whole = {"prompt": TURNS, "chosen": [*TURNS, GOOD], "rejected": [*TURNS, BAD]}
    pairs = read(tmp_path, [whole])
    assert [pair.chat for pair in pairs.train] == [Chat(tuple(TURNS), (GOOD,), (BAD,))]
    assert "they begin with the prompt" in pairs.notices[0]
    assert mistakes(tmp_path, [whole, {**whole, "rejected": [user("Who?"), BAD]}]) == (
        "data/train.jsonl:2, rejected[0]: a conversation that does not begin with the prompt\n"
        "    expected: the message of prompt[0]\n"
        "    found:    user: Who?"
    )


def test_conversations_with_from_and_value_are_recognised_beside_their_answers(tmp_path: Path) -> None:
    human, gpt = {"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."}
    record = {"conversations": [human, gpt, human], "chosen": {"from": "gpt", "value": "a"}, "rejected": "b"}
    pairs = read(tmp_path, [record])
    prompt = (user("Where?"), assistant("Here."), user("Where?"))
    assert [pair.chat for pair in pairs.train] == [Chat(prompt, (assistant("a"),), (assistant("b"),))]
    assert pairs.notices[0] == (
        "data/train.jsonl: recognised: lists of messages (from, value) in conversations and chosen; 3 messages before an answer"
    )


def test_transcripts_of_hh_rlhf_are_conversations(tmp_path: Path) -> None:
    begin = "\n\nHuman: Where is it?\n\nAssistant: At Linden Square.\n\nHuman: And when?\n\nAssistant:"
    pairs = read(tmp_path, [{"chosen": f"{begin} At nine.", "rejected": f"{begin} Some day."}])
    assert [pair.chat for pair in pairs.train] == [Chat(tuple(TURNS), (GOOD,), (BAD,))]
    assert "whole conversations (Human: …, Assistant: …) in chosen and rejected" in pairs.notices[0]


def test_a_prompt_s_transcript_may_end_where_the_answer_begins(tmp_path: Path) -> None:
    begin = "\n\nHuman: Where is it?\n\nAssistant: At Linden Square.\n\nHuman: And when?\n\nAssistant: "
    pairs = read(tmp_path, [{"prompt": begin, "chosen": "At nine.", "rejected": "Some day."}])
    assert [pair.chat for pair in pairs.train] == [Chat(tuple(TURNS), (GOOD,), (BAD,))]
    said = mistakes(tmp_path, [{"chosen": f"{begin}At nine.", "rejected": begin}])
    assert "no answer after the prompt" in said


@pytest.mark.parametrize(
    ("rejected", "found"),
    [
        ([*TURNS[:2], user("Why?"), BAD], "user: And when? ≠ user: Why?"),
        (TURNS[:2], "user: And when? ≠ no such message"),
    ],
)
def test_whole_conversations_whose_questions_differ_are_told_that(
    tmp_path: Path, rejected: list[dict[str, str]], found: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, [{"chosen": [*TURNS, GOOD], "rejected": rejected}])
    assert str(caught.value) == (
        "data/train.jsonl:1, chosen[2]: chosen and rejected already differ in a message of the user\n"
        f"    expected: two conversations with the same prompt\n    found:    {found}"
    )


def test_a_mapping_names_columns_keys_roles_and_tools(tmp_path: Path) -> None:
    def say(who: str, text: str) -> dict[str, str]:
        return {"speaker": who, "utterance": text}

    record = {
        "talk": [say("Customer", "Where?")],
        "better": [say("Agent", "a")],
        "worse": [say("Agent", "b")],
        "functions": TOOLS,
    }
    settings = mapping(
        input_columns={"prompt": "talk"},
        chosen="better",
        rejected="worse",
        tools="functions",
        role_key="speaker",
        content_key="utterance",
        roles={"customer": "user", "Agent": "assistant"},
    )
    (pair,) = read(tmp_path, [record], **settings).train
    assert pair.chat == Chat((user("Where?"),), (assistant("a"),), (assistant("b"),), tuple(TOOLS))


def test_tools_and_calls_are_read_and_learned_answers_of_tools_are_a_warning(tmp_path: Path) -> None:
    record = {"prompt": "Where?", "chosen": [CALL, FOUND, GOOD], "rejected": [BAD], "tools": json.dumps(TOOLS)}
    pairs = read(tmp_path, [record, {**record, "prompt": "When?", "tools": None}])
    called = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "map", "arguments": {}}}],
    }
    assert [pair.chat for pair in pairs.train] == [
        Chat((user("Where?"),), (called, FOUND, GOOD), (BAD,), tuple(TOOLS)),
        Chat((user("When?"),), (called, FOUND, GOOD), (BAD,), None),
    ]
    assert pairs.train[0].chosen == "assistant: → map({})\n\ntool: Linden Square\n\nassistant: At nine."
    assert pairs.notices == (
        "data/train.jsonl: recognised: lists of messages (role, content) in chosen and rejected; tools in tools; "
        "1 message before an answer",
        "data/train.jsonl: 2 of 2 rows have tool or user messages inside answers: their tokens are learned too, as in TRL",
    )
    assert isinstance(pairs.notices[1], Warned)


def test_the_opposite_preference_for_other_tools_is_no_contradiction_and_the_same_one_no_repeat(tmp_path: Path) -> None:
    record = {"prompt": "Where?", "chosen": [CALL, FOUND, GOOD], "rejected": [BAD], "tools": json.dumps(TOOLS)}
    opposite = {**record, "chosen": record["rejected"], "rejected": record["chosen"]}
    pairs = read(tmp_path, [record, {**opposite, "tools": None}])
    assert [one.rule for one in pairs.found if one.rule in ("contradiction", "repeated_pair")] == []
    pairs = read(tmp_path, [record, {**record, "tools": None}])
    found = survey(pairs)
    assert (found.repeated, [one.rule for one in pairs.found if one.rule == "repeated_pair"]) == (0, [])
    assert [one.count for one in read(tmp_path, [record, opposite]).found if one.rule == "contradiction"] == [2]


def test_half_of_a_character_is_a_mistake_at_its_row_and_both_halves_are_one(tmp_path: Path) -> None:
    alone = r'{"prompt": "\ud83dx", "chosen": "a", "rejected": "b"}'
    both = r'{"prompt": "\ud83d\ude00x", "chosen": "a", "rejected": "b"}'
    said = mistakes(tmp_path, f"{both}\n{alone}\n")
    assert said.startswith("data/train.jsonl:2: half of a character (a surrogate without the other one)\n")
    assert r"\ud83d" in said
    assert read(tmp_path, f"{both}\n").train[0].user == "😀x"
    cell = json.dumps([user("\ud83dx")])
    said = mistakes(tmp_path, as_csv([{"prompt": cell, "chosen": "a", "rejected": "b"}], write=str), "train.csv")
    assert "prompt: half of a character" in said


@pytest.mark.parametrize("call", [{"role": "function_call", "value": "[]"}, {"role": "function_call", "content": ""}])
def test_a_call_without_a_function_is_a_mistake(tmp_path: Path, call: Record) -> None:
    said = mistakes(tmp_path, [{"prompt": [user("Where?")], "chosen": [call], "rejected": [BAD]}])
    assert "chosen[0]: a call without a function" in said


def test_a_call_written_as_a_role_of_its_own_is_a_call(tmp_path: Path) -> None:
    call = {"from": "function_call", "value": '{"name": "map", "arguments": {"of": "it"}}'}
    told = {"from": "observation", "value": "Linden Square"}
    record = {"conversations": [{"from": "human", "value": "Where?"}, call, told], "chosen": "a", "rejected": "b"}
    (pair,) = read(tmp_path, [record]).train
    assert pair.chat is not None
    assert pair.chat.prompt == (
        user("Where?"),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "map", "arguments": {"of": "it"}}}],
        },
        {"role": "tool", "content": "Linden Square"},
    )


def test_the_system_text_of_the_prompt_table_comes_before_a_conversation_without_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prompt_data.csv").write_text("name,system,user\nprompt_default,Be polite.,{prompt}\n")
    other = {**EXPLICIT, "prompt": TURNS}
    pairs = read(tmp_path, [EXPLICIT, other])
    assert [(pair.system, pair.chat and pair.chat.has_system) for pair in pairs.train] == [(None, True), ("Be polite.", False)]
    assert "data/train.jsonl: 1 of 2 rows have a system message of their own, which replaces the prompt table's" in pairs.notices


def test_a_user_template_with_text_around_a_conversation_is_a_mistake_at_the_template(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prompt_data.csv").write_text("name,system,user\nprompt_default,,Question: {prompt}\n")
    assert mistakes(tmp_path, [EXPLICIT]) == (
        "data/prompt_data.csv:2: the user template puts text around the prompt, which is a list of messages\n"
        "    expected: the placeholder {prompt} alone\n"
        "    found:    'Question: {prompt}'\n"
        "    hint:     make user exactly {prompt}; put instructions into system, or into the messages"
    )


def test_a_text_prompt_with_answers_of_messages_goes_through_the_user_template(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prompt_data.csv").write_text("name,system,user\nprompt_default,Be polite.,Question: {prompt}\n")
    (pair,) = read(tmp_path, [{"prompt": "When?", "chosen": [CALL, FOUND, GOOD], "rejected": [BAD]}]).train
    assert pair.system == "Be polite."
    assert pair.chat is not None
    assert pair.chat.prompt == (user("Question: When?"),)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "When?"}, 'prompt: a cell without messages\n    expected: messages, such as [{"role": "user"'),
        ({"chosen": "At nine."}, "chosen: a cell without messages"),
        ({"chosen": "[At nine."}, "chosen: a list of messages that cannot be read: expecting value at character 2"),
        (
            {"prompt": TURNS[:2]},
            "prompt[1].role: the prompt ends with a message of the assistant\n    expected: user or tool last",
        ),
        ({"prompt": [user("Hi"), SYSTEM, user("Ho")]}, "prompt[1].role: a system message that is not the first"),
        (
            {"prompt": [{"role": "Bob", "content": "Hi"}]},
            "prompt[0].role: an unknown role\n    expected: system, developer, user, assistant, tool\n    found:    'Bob'\n"
            "    hint:     map it under dpo_column_mapping_config: `roles: {Bob: user}`",
        ),
        ({"prompt": [user(" ")]}, "prompt[0].content: an empty message"),
        ({"prompt": ["Hi"]}, "prompt[0]: not a message"),
        ({"prompt": [{"role": "user", "text": "Hi"}]}, "prompt[0]: a message without text\n    expected: content or value"),
        ({"prompt": [{"content": "Hi"}]}, "prompt[0]: a message without a role\n    expected: role or from"),
        ({"prompt": []}, "prompt: an empty list"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]},
            "prompt[0].content: images and audio are not supported",
        ),
        ({"prompt": [{"role": "user", "content": 3}]}, "prompt[0].content: not text"),
        ({"chosen": [user("At nine?"), GOOD]}, "chosen[0].role: an answer that begins with a message of the user"),
        ({"chosen": [CALL, FOUND]}, "chosen[1].role: an answer that ends with a message of the tool"),
        ({"chosen": [{**CALL, "tool_calls": ["map"]}, FOUND, GOOD]}, "chosen[0].tool_calls[0]: not a call"),
    ],
)
def test_what_is_no_conversation_is_refused_at_its_place(tmp_path: Path, record: Record, said: str) -> None:
    assert mistakes(tmp_path, [EXPLICIT, {**EXPLICIT, **record}]).startswith(f"data/train.jsonl:2, {said}")


def test_parts_of_text_are_one_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "And "}, {"type": "text", "text": "when?"}]
    (pair,) = read(tmp_path, [{**EXPLICIT, "prompt": [SYSTEM, *TURNS[:2], {"role": "user", "content": parts}]}]).train
    assert pair.chat == CHAT


def test_whole_conversations_must_share_a_prompt_and_go_on_after_it(tmp_path: Path) -> None:
    whole = {"chosen": [*TURNS, GOOD], "rejected": [*TURNS, BAD]}
    assert "chosen and rejected share no message" in mistakes(tmp_path, [whole, {**whole, "rejected": [user("Who?"), BAD]}])
    text = mistakes(tmp_path, [whole, {**whole, "rejected": TURNS}])
    assert text.startswith("data/train.jsonl:2, rejected[3]: no answer after the prompt")
    assert "chosen and rejected are equal" in mistakes(tmp_path, [whole, {**whole, "rejected": whole["chosen"]}])
    text = mistakes(tmp_path, [{**whole, "rejected": "Some day."}])
    assert text.startswith("data/train.jsonl:1, rejected: text where 'chosen' has a whole conversation")


def test_rules_look_into_messages_and_name_the_message(tmp_path: Path) -> None:
    bad = {**EXPLICIT, "prompt": [SYSTEM, user("Where\x07?")], "rejected": [assistant("#REF!")]}
    assert mistakes(tmp_path, [EXPLICIT, bad]) == (
        "data/train.jsonl:2, prompt[1].content: control character\n"
        "    expected: text, line breaks and tabs\n"
        "    found:    U+0007 at character 6 of the cell\n"
        "data/train.jsonl:2, rejected[0].content: a formula error\n"
        "    found:    #REF!\n"
        "    hint:     fix the formula in the spreadsheet"
    )
    warned = read(tmp_path, [EXPLICIT, {**EXPLICIT, "chosen": [assistant("nan")]}]).notices[1]
    assert warned.startswith("data/train.jsonl: 1 of 2 cells in column 'chosen' are only a word for a missing value (line 2)")


def test_repeats_and_contradictions_of_conversations_are_found(tmp_path: Path) -> None:
    notices = read(tmp_path, [EXPLICIT, EXPLICIT, {**EXPLICIT, "chosen": [BAD], "rejected": [GOOD]}]).notices
    assert any("repeat an earlier one" in one for one in notices)
    assert any("contradict another one" in one for one in notices)
    other = [{"role": "system", "content": "You are long."}, *TURNS]
    assert not any("repeat" in one for one in read(tmp_path, [EXPLICIT, {**EXPLICIT, "prompt": other}]).notices)


def test_a_list_in_a_column_of_texts_is_refused_and_a_rule_that_is_off_reads_text(tmp_path: Path) -> None:
    plain = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    text = mistakes(tmp_path, [plain, {**plain, "chosen": [GOOD]}])
    assert text.startswith("data/train.jsonl:2: a list of messages as text in column 'chosen'\n    found:    1 message")
    (pair,) = read(tmp_path, [{**plain, "chosen": [GOOD]}], data_checks={"messages_as_text": "off"}).train
    assert pair.chosen == json.dumps([GOOD])


def test_a_cut_cell_of_excel_names_excel(tmp_path: Path) -> None:
    cell = json.dumps([user("x" * 40_000)])[:32_767]
    text = mistakes(tmp_path, as_csv([{"prompt": cell, "chosen": "a", "rejected": "b"}]), "train.csv")
    assert text.startswith("data/train.csv:2, prompt: a list of messages that cannot be read")
    assert "hint:     Excel has cut the cell: export the data without it" in text


def test_an_answer_of_json_with_keys_from_and_value_is_text(tmp_path: Path) -> None:
    answers = [json.dumps({"from": "EUR", "to": to, "value": 3}) for to in ("USD", "CHF")]
    records = [{"prompt": "Convert.", "chosen": answers[0], "rejected": answers[1]}]
    (pair,) = read(tmp_path, as_csv(records), "train.csv").train
    assert (pair.chosen, pair.rejected) == tuple(answers)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [SYSTEM, *TURNS, GOOD]},
        {"prompt": "And when?", "messages": [SYSTEM, *TURNS, GOOD]},
        {"prompt": [SYSTEM, *TURNS], "chosen": [GOOD]},
        {"prompt": [SYSTEM, *TURNS], "answer": GOOD},
        {"chosen": [SYSTEM, *TURNS, GOOD], "rejected": [SYSTEM, *TURNS, BAD]},
    ],
)
def test_sft_learns_what_follows_the_last_question(tmp_path: Path, record: Record) -> None:
    pairs = read(tmp_path, [record], method="sft")
    assert [pair.chat for pair in pairs.train] == [Chat((SYSTEM, *TURNS), (GOOD,), None)]


def test_the_processed_data_have_texts_and_messages_and_give_the_pair_again(tmp_path: Path) -> None:
    pairs = read(tmp_path, [{**EXPLICIT, "tools": TOOLS}])
    (file,) = write_processed(pairs, tmp_path / "out")
    found = json.loads(file.read_text())
    assert (found["chosen"], found["line"]) == ("At nine.", 1)
    assert found["messages"] == {"prompt": [SYSTEM, *TURNS], "chosen": [GOOD], "rejected": [BAD], "tools": TOOLS}
    assert Pair.parsed(found) == pairs.train[0]


def test_all_rows_of_a_list_on_one_line_keep_their_own_messages(tmp_path: Path) -> None:
    records = [EXPLICIT, {**EXPLICIT, "prompt": [user("Who?")], "chosen": [assistant("Ann.")]}]
    pairs = read(tmp_path, json.dumps(records), "train.json")
    assert [pair.chosen for pair in pairs.train] == ["At nine.", "Ann."]
    assert pairs.train[1] == Pair(None, "Who?", "Ann.", "Some day.", 1)


def test_a_fixed_copy_mends_the_texts_of_messages_and_keeps_the_list(tmp_path: Path) -> None:
    from launcher.data.fixed import fix

    garbled = {**EXPLICIT, "chosen": [assistant("At_x000D_ f\u00c3\u00bcnf \u00fcber zw\u00f6lf.\u200b")]}
    (tmp_path / "train.csv").write_text(as_csv([garbled], lambda one: json.dumps(one, ensure_ascii=False)), encoding="utf-8")
    experiment = Experiment.parse({"model_name": "m", "datasets_path": str(tmp_path), "train_filename": "train.csv"})
    (fixed,) = fix(experiment)
    assert fixed.copy is not None
    again = experiment.model_copy(update={"train_filename": fixed.copy.name})
    (pair,) = read_pairs(again, Reading(tmp_path)).train
    assert pair.chosen == "At\n f\u00fcnf \u00fcber zw\u00f6lf."
    assert pair.chat == Chat((SYSTEM, *TURNS), (assistant(pair.chosen),), (BAD,))


def test_another_file_is_read_by_what_it_holds(tmp_path: Path) -> None:
    from launcher.data.pairs import read_other
    from launcher.data.prompt import Prompt

    pairs = read(tmp_path, [EXPLICIT])
    (tmp_path / "other.jsonl").write_text(json.dumps({"chosen": [*TURNS, GOOD], "rejected": [*TURNS, BAD]}) + "\n")
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "data"})
    (pair,) = read_other(experiment, tmp_path / "other.jsonl", pairs.prompt or Prompt(None, ("", "prompt", ""))).validation
    assert pair.chat == Chat(tuple(TURNS), (GOOD,), (BAD,))


def test_a_row_without_messages_is_refused_whatever_the_rules_about_rows_say(tmp_path: Path) -> None:
    header = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    empty = dict.fromkeys(header, "")
    checks = {"repeated_header": "warn", "empty_row": "off", "empty_cell": "off"}
    text = mistakes(tmp_path, as_csv([EXPLICIT, header, empty, EXPLICIT]), "train.csv", data_checks=checks)
    assert text.startswith("data/train.csv:3, prompt: a cell without messages")
    assert "(6 times in all)" in text
