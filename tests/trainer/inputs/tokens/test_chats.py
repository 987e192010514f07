"""Conversations as tokens: those of TRL's own trainers, and what the chat template does to each message."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.data.text.chat import Chat
from launcher.data.text.pair import Pair
from launcher.errors import DataError, ExperimentError, Warned
from launcher.experiment.schema import Experiment
from launcher.planning.tokens.work import tokens_at_most
from tests.trainer.inputs.tokens.chats import CHATML, DROPS_REASONING, DROPS_SYSTEM, NO_END, NO_SYSTEM, tokenizer
from trainer.inputs.tokens.tokens import Tokens, tokenize

Encode = Callable[..., Tokens]


def message(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def calls(name: str, **arguments: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "arguments": arguments}}]


SYSTEM = message("system", "You are brief.")
TURNS = (message("user", "Where is it?"), message("assistant", "At Linden Square."), message("user", "And when?"))
GOOD, BAD = message("assistant", "At nine."), message("assistant", "Some day.")
CALL = message("assistant", "", tool_calls=calls("timetable", of="Linden"))
WRONG = message("assistant", "", tool_calls=calls("weather", of="Linden"))
FOUND = message("tool", "nine", name="timetable")
TOOL = {
    "type": "function",
    "function": {
        "name": "timetable",
        "description": "When it is open.",
        "parameters": {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]},
    },
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CHATS = {
    "several turns": Chat((SYSTEM, *TURNS), (GOOD,), (BAD,)),
    "a system text": Chat((SYSTEM, TURNS[0]), (GOOD,), (BAD,)),
    "answers that call": Chat(TURNS[:1], (CALL, FOUND, GOOD), (BAD,), (TOOL,)),
    "a prompt that ends with a tool": Chat((TURNS[0], CALL, FOUND), (GOOD,), (BAD,), (TOOL,)),
    "two answers of several messages": Chat(TURNS, (CALL, FOUND, GOOD), (WRONG, FOUND, BAD), (TOOL, WEATHER)),
    "answers with a question": Chat(TURNS[:1], (GOOD, *TURNS[2:], BAD), (BAD, *TURNS[2:], GOOD)),
    "reasoning": Chat(TURNS[:1], (message("assistant", "<think>\nhm\n</think>\n\nAt nine."),), (BAD,)),
}
WITH_TOOLS = ("qwen2_5", "qwen3", "llama3_1")


def pairs_of(*chats: Chat) -> tuple[Pair, ...]:
    return tuple(Pair.of_chat(None, chat, line) for line, chat in enumerate(chats, start=2))


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    def run(made: Any, pairs: tuple[Pair, ...], **hyper: Any) -> Tokens:
        experiment = Experiment.parse(
            {"model_name": "m", "datasets_path": "d", "hyperparameters": {"max_seq_length": 9000, **hyper}}
        )
        return tokenize(pairs, made, experiment.hyperparameters, source="train.jsonl", cache=tmp_path)

    return run


def of_trl(name: str) -> str:
    """One of the chat templates that TRL's own tests use."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()


def by_trl(made: Any, chat: Chat) -> Mapping[str, list[int]]:
    """The ids that TRL's DPOTrainer makes of a conversation."""
    from trl import DPOConfig, DPOTrainer

    row = {name: part for name, part in chat.json().items() if name != "tools"}
    rows = [row if chat.tools is None else {**row, "tools": json.dumps(list(chat.tools))}]
    trl = DPOTrainer.__new__(DPOTrainer)
    trl._tokenizer = made
    config = DPOConfig(output_dir="unused", bf16=False, use_cpu=True, max_length=None)
    (found,) = DPOTrainer._prepare_dataset(trl, Listed(rows), made, config, "train")  # type: ignore[arg-type]
    return found


class Listed:
    """Rows as they are, with what TRL asks of an iterable dataset: Arrow would fill up the messages with nulls."""

    def __init__(self, rows: list[dict[str, Any]]):
        self._rows = rows

    def __iter__(self) -> Any:
        return iter(self._rows)

    @property
    def column_names(self) -> list[str]:
        return list(self._rows[0])

    def map(self, function: Any, fn_kwargs: Mapping[str, Any] | None = None, remove_columns: Any = (), **_: Any) -> Listed:
        made = [{**row, **function(row, **(fn_kwargs or {}))} for row in self._rows]
        return Listed([{name: row[name] for name in row if name not in (remove_columns or ())} for row in made])

    def filter(self, function: Any, **_: Any) -> Listed:
        return Listed([row for row in self._rows if function(row)])


@pytest.mark.parametrize("template", [None, *WITH_TOOLS])
@pytest.mark.parametrize("name", CHATS)
def test_trl_makes_the_same_ids_of_the_same_conversation(encode: Encode, name: str, template: str | None) -> None:
    chat = CHATS[name]
    is_called = bool(chat.tools) or any("tool_calls" in one for one in chat.prompt)
    if template is None and is_called:
        pytest.skip("this template takes no tools")
    made = tokenizer(CHATML if template is None else of_trl(template))
    theirs, (ours,) = by_trl(made, chat), encode(made, pairs_of(chat)).pairs
    assert (ours.prompt, ours.chosen, ours.rejected) == (theirs["prompt_ids"], theirs["chosen_ids"], theirs["rejected_ids"])
    assert ours.chosen
    assert ours.rejected


@pytest.mark.parametrize("name", ["several turns", "answers that call", "a prompt that ends with a tool"])
def test_sft_s_ids_are_those_of_trl_s_trainer_for_prompt_and_completion(encode: Encode, name: str) -> None:
    from trl import SFTConfig, SFTTrainer

    chat, made = replace(CHATS[name], rejected=None), tokenizer(of_trl("qwen3"))
    row = {"prompt": list(chat.prompt), "completion": list(chat.chosen), "tools": json.dumps(list(chat.tools or ()))}
    trl = SFTTrainer.__new__(SFTTrainer)
    trl._tokenizer, trl.chat_template, trl.completion_only_loss = made, None, True
    config = SFTConfig(output_dir="unused", bf16=False, use_cpu=True, max_length=None)
    config.shuffle_dataset = False
    rows = Listed([row if chat.tools else {key: row[key] for key in ("prompt", "completion")}])
    (theirs,) = SFTTrainer._prepare_dataset(trl, rows, made, config, False, None, "train")  # type: ignore[arg-type]
    (ours,) = encode(made, pairs_of(chat)).pairs
    assert theirs["input_ids"] == [*ours.prompt, *ours.chosen]
    assert [label for label in theirs["labels"] if label != -100] == ours.chosen
    assert ours.rejected == []


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3"])
def test_the_launcher_s_bound_of_tokens_holds_for_conversations_with_tools(encode: Encode, template: str) -> None:
    pairs = pairs_of(*CHATS.values())
    assert tokens_at_most(pairs, 9000) >= encode(tokenizer(of_trl(template)), pairs).total


def test_messages_that_read_as_one_question_give_the_tokens_of_a_text(encode: Encode) -> None:
    made, alone = tokenizer(), Chat(TURNS[:1], (GOOD,), (BAD,))
    texts = (Pair(None, "Where is it?", "At nine.", "Some day.", 2),)
    assert pairs_of(alone) == texts
    assert encode(made, (replace(texts[0], chat=alone),)).pairs == encode(made, texts).pairs


def test_the_system_text_of_the_prompt_table_is_the_first_message(encode: Encode) -> None:
    made, chat = tokenizer(), replace(CHATS["several turns"], prompt=TURNS)
    table = (Pair.of_chat("You are brief.", chat, 2),)
    assert encode(made, table).pairs == encode(made, pairs_of(CHATS["several turns"])).pairs


def test_a_system_message_that_the_template_leaves_out_is_a_warning(encode: Encode) -> None:
    (warning,) = encode(tokenizer(DROPS_SYSTEM), pairs_of(CHATS["several turns"])).notices
    assert isinstance(warning, Warned)
    assert warning.startswith("train.jsonl: the chat template leaves the system message out of the prompt in 1 of 1 pairs")


def test_a_system_message_that_the_template_refuses_is_a_mistake_at_its_row(encode: Encode) -> None:
    plain = replace(CHATS["several turns"], prompt=TURNS)
    with pytest.raises(DataError) as caught:
        encode(tokenizer(NO_SYSTEM), pairs_of(plain, CHATS["several turns"]))
    assert str(caught.value).startswith("train.jsonl:3: the model's chat template takes no system message\n")
    assert str(caught.value).endswith("\n    hint:     write its text into the prompt, or leave it out")


def test_a_conversation_that_the_template_refuses_is_a_mistake_at_its_row(encode: Encode) -> None:
    alternates = CHATML.replace("{% for m", "{% if messages[1:] and messages[-2].role == messages[-1].role %}"
                                "{{ raise_exception('roles must alternate') }}{% endif %}{% for m")  # fmt: skip
    twice = replace(CHATS["several turns"], prompt=(*TURNS, message("user", "Please.")))
    with pytest.raises(DataError) as caught:
        encode(tokenizer(alternates), pairs_of(CHATS["several turns"], twice))
    assert "train.jsonl:3: the model's chat template refuses this pair" in str(caught.value)
    assert "roles must alternate" in str(caught.value)


def test_reasoning_that_the_template_cuts_from_an_answer_of_several_messages_is_a_warning(encode: Encode) -> None:
    thought = message("assistant", "<think>The map shows it.</think>At Linden Square.")
    chat = Chat(TURNS[:1], (thought, *TURNS[2:], GOOD), (BAD,))
    notices = encode(tokenizer(DROPS_REASONING), pairs_of(chat)).notices
    (warning,) = [one for one in notices if "reasoning" in one]
    assert isinstance(warning, Warned)
    assert "the chat template cuts the reasoning from 1 of 2 answers" in warning


def test_earlier_answers_that_the_template_shortens_are_a_notice(encode: Encode) -> None:
    thought = message("assistant", "<think>The map shows it.</think>At Linden Square.")
    made = tokenizer(CHATML.replace("m['content']", "(m['content'].split('</think>')[-1] if not loop.last else m['content'])"))
    (notice,) = encode(made, pairs_of(Chat((TURNS[0], thought, TURNS[2]), (GOOD,), (BAD,)))).notices
    assert not isinstance(notice, Warned)
    assert notice.startswith(
        "train.jsonl: the chat template changes earlier messages of the prompt in 1 texts, first the assistant"
    )


def test_an_answer_of_several_messages_without_an_end_token_is_a_warning(encode: Encode) -> None:
    notices = encode(tokenizer(NO_END), pairs_of(CHATS["answers with a question"])).notices
    assert any("2 of 2 answers end without an end token" in one and isinstance(one, Warned) for one in notices)


def test_a_call_that_the_template_leaves_out_is_a_mistake_in_an_answer_and_a_warning_in_a_prompt(encode: Encode) -> None:
    with pytest.raises(DataError) as caught:
        encode(tokenizer(), pairs_of(CHATS["answers that call"]))
    assert str(caught.value).startswith("train.jsonl:2: the chat template leaves out a tool call of the chosen answer\n")
    prompted = replace(CHATS["a prompt that ends with a tool"], prompt=(TURNS[0], CALL, message("tool", "nine")))
    notices = encode(tokenizer(), pairs_of(prompted)).notices
    assert "train.jsonl: the chat template leaves tool calls out of the prompt in 1 texts" in notices[0]
    assert "train.jsonl: the chat template leaves the tools out of the prompt in 1 of 1 pairs" in notices[1]
    assert all(isinstance(one, Warned) for one in notices)


def test_without_a_chat_template_turns_are_paragraphs_and_calls_are_refused(encode: Encode) -> None:
    made = tokenizer(None)
    (pair,) = encode(made, pairs_of(CHATS["several turns"])).pairs
    assert made.decode(pair.prompt) == "You are brief.\n\nWhere is it?\n\nAt Linden Square.<|im_end|>\n\nAnd when?\n\n"
    assert made.decode(pair.chosen) == "At nine.<|im_end|>"
    with pytest.raises(ExperimentError) as caught:
        encode(made, pairs_of(CHATS["answers that call"]))
    assert "the tokenizer has no chat template, and tool calls and answers of several messages need one" in str(caught.value)


def test_pairs_with_and_without_tools_keep_their_order(encode: Encode) -> None:
    made = tokenizer(of_trl("qwen2_5"))
    chats = [
        CHATS[name] for name in ("answers that call", "several turns", "two answers of several messages", "answers that call")
    ]
    together = encode(made, pairs_of(*chats)).pairs
    alone = [encode(made, pairs_of(chat)).pairs[0] for chat in chats]
    assert [(one.prompt, one.chosen, one.rejected) for one in together] == [
        (one.prompt, one.chosen, one.rejected) for one in alone
    ]
