"""The file of answers, what it was made with, and the memory that is planned; no weights are loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from launcher.after.chat import Wish
from launcher.after.generate import Answers, made_of
from launcher.data.prompt import Prompt
from launcher.data.prompts import Prompts, read_prompts
from launcher.data.text.template import paragraphs
from launcher.errors import DataError, ExperimentError, MemoryShortage, UsageError
from launcher.experiment.schema import Experiment
from launcher.job.target import Target
from launcher.planning.machines.gpus import find_gpu
from launcher.planning.weights import uses
from launcher.planning.weights.held_here import held_here
from tests.run_folders import Made

WISH = Wish(base=True, max_tokens=16, temperature=0.0)
ABOUT = Prompt("S", ("About ", "topic", ": ", "question", ""))


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.chdir(tmp_path)
    run = Made("one").write(tmp_path)
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"weights")
    return Target.of(run.path)


def answer(row: int, text: str = "yes", finish: str = "stop") -> dict[str, Any]:
    return {"row": row, "prompt": "p", "answer": text, "tokens": 1, "finish": finish}


def of(target: Target, wish: Wish = WISH, data: str = "d") -> Answers:
    return Answers(Path("answers.jsonl"), made_of(target, Prompts("p.csv", data, ()), wish))


def test_answers_are_added_as_they_come_and_end_in_the_files_order(target: Target) -> None:
    answers = of(target)
    assert answers.begin() == set()
    answers.add([answer(5), answer(3, "a\u2028b\nc", "length")])
    answers.add([answer(2)])
    assert answers.finish([2, 3, 5]) == 1
    lines = Path("answers.jsonl").read_text().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [answer(2), answer(3, "a\u2028b\nc", "length"), answer(5)]
    assert of(target).begin() == {2, 3, 5}


def test_a_line_that_was_cut_off_is_answered_again(target: Target) -> None:
    answers = of(target)
    answers.begin()
    answers.add([answer(5), answer(3)])
    output = Path("answers.jsonl")
    output.write_text(output.read_text()[:-4])
    assert of(target).begin() == {5}
    assert output.read_text() == json.dumps(answer(5)) + "\n"


def test_a_line_that_was_cut_within_a_character_is_answered_again(target: Target) -> None:
    answers = of(target)
    answers.begin()
    answers.add([answer(5), answer(3, "für")])
    output = Path("answers.jsonl")
    written = output.read_bytes()
    output.write_bytes(written[: written.index("ü".encode()) + 1])
    assert of(target).begin() == {5}


@pytest.mark.parametrize(
    ("wish", "data", "said"),
    [
        (Wish(True, 17, 0.0), "d", "max_tokens 16, now 17"),
        (Wish(False, 16, 0.5), "d", "temperature 0.0, now 0.5; base True, now False"),
        (WISH, "other", "other data"),
    ],
)
def test_answers_of_other_settings_are_not_continued(target: Target, wish: Wish, data: str, said: str) -> None:
    of(target).begin()
    of(target).add([answer(2)])
    with pytest.raises(UsageError, match=rf"answers\.jsonl was made with other settings: {said}\n.*hint: .*another file"):
        of(target, wish, data).begin()


def test_other_weights_of_the_same_run_are_noticed(target: Target) -> None:
    of(target).begin()
    of(target).add([answer(2)])
    (target.weights / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(UsageError, match="other weights"):
        of(target).begin()


def test_a_file_that_is_no_file_of_answers_is_left_alone(target: Target) -> None:
    Path("answers.jsonl").write_text("mine\n")
    with pytest.raises(UsageError, match=r"answers\.jsonl exists without answers\.jsonl\.settings\.json"):
        of(target).begin()
    Path("answers.jsonl").unlink()
    of(target).begin()
    Path("answers.jsonl").write_text(json.dumps(answer(2)) + "\nmine\n")
    with pytest.raises(UsageError, match=r"answers\.jsonl:2: not an answer"):
        of(target).begin()
    with pytest.raises(UsageError, match=r"cannot write nowhere/a\.jsonl: folder .*nowhere not found"):
        Answers(Path("nowhere/a.jsonl"), {}).begin()


def experiment(**inputs: str) -> Experiment:
    mapping = {"input_columns": inputs or {"topic": "topic", "question": "q"}, "chosen": "good", "rejected": "bad"}
    return Experiment.parse({"model_name": "m", "datasets_path": "d", "dpo_column_mapping_config": mapping})


def test_a_table_needs_the_input_columns_alone(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text('topic,q\nbread,"How\nhot?"\nsoup,Why?\n')
    assert read_prompts(file, experiment(), ABOUT).messages == ((2, "About bread: How\nhot?"), (4, "About soup: Why?"))
    file.write_text("topic\nbread\n")
    with pytest.raises(DataError, match=r"missing column 'q'"):
        read_prompts(file, experiment(), ABOUT)
    file.write_text("topic,q\nbread,\n")
    with pytest.raises(DataError, match=r"p\.csv:2: empty cell in column 'q'"):
        read_prompts(file, experiment(), ABOUT)


def test_lines_are_prompts_and_objects_have_the_columns_or_a_prompt(tmp_path: Path) -> None:
    text = tmp_path / "p.txt"
    text.write_text("Why?\n\n How? \n")
    one = Prompt(None, ("Q: ", "question", ""))
    assert read_prompts(text, experiment(question="q"), one).messages == ((1, "Q: Why?"), (3, "Q: How?"))
    lines = tmp_path / "p.jsonl"
    lines.write_text('{"q": "Why?", "topic": "soup"}\n{"prompt": "whole\u2028message"}\n')
    assert read_prompts(lines, experiment(), ABOUT).messages == ((1, "About soup: Why?"), (2, "whole\u2028message"))


def test_an_optional_part_of_a_prompt_may_be_empty_or_missing(tmp_path: Path) -> None:
    settings = Experiment.parse(
        {"model_name": "m", "datasets_path": "d", "dpo_column_mapping_config": {"input_columns": {"a": "a", "b": "b"}}}
    )
    joined = Prompt(None, paragraphs(["a", "b"]))
    table, lines, text = tmp_path / "p.csv", tmp_path / "p.jsonl", tmp_path / "p.txt"
    table.write_text("a,b\nWhy?,now\nHow?,\n")
    lines.write_text('{"a": "Why?", "b": "now"}\n{"a": "How?"}\n')
    text.write_text("Why?\n")
    assert [one for _, one in read_prompts(table, settings, joined).messages] == ["Why?\n\nnow", "How?"]
    assert [one for _, one in read_prompts(lines, settings, joined).messages] == ["Why?\n\nnow", "How?"]
    assert read_prompts(text, settings, joined).messages == ((1, "Why?"),)


def test_a_prompt_may_be_inside_an_object_as_in_the_training_data(tmp_path: Path) -> None:
    settings = Experiment.parse(
        {"model_name": "m", "datasets_path": "d", "dpo_column_mapping_config": {"input_columns": {"q": "input.text"}}}
    )
    alone, lines, table = Prompt(None, ("", "q", "")), tmp_path / "p.jsonl", tmp_path / "p.csv"
    lines.write_text(
        '{"input": {"text": "Why?"}}\n{"prompt": "How?"}\n{"input": {"text": [{"role": "user", "content": "Who?"}]}}\n'
    )
    assert [one for _, one in read_prompts(lines, settings, alone).messages] == ["Why?", "How?", "Who?"]
    table.write_text('input\n"{""text"": ""Why?""}"\n')
    assert read_prompts(table, settings, alone).messages == ((2, "Why?"),)
    lines.write_text('{"input": {"title": "Why?"}}\n')
    with pytest.raises(DataError, match=r"p\.jsonl:1: no prompt in this object"):
        read_prompts(lines, settings, alone)


def test_a_prompt_may_be_a_conversation_with_tools_in_a_cell_or_an_object(tmp_path: Path) -> None:
    asked = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}, {"from": "human", "value": "Why?"}]
    turns = tuple({"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Ho"), ("user", "Why?")))
    tools = ({"type": "function", "function": {"name": "map"}},)
    text = "user: Hi\n\nassistant: Ho\n\nuser: Why?"
    settings, alone = Experiment.parse({"model_name": "m", "datasets_path": "d"}), Prompt(None, ("", "prompt", ""))
    lines = tmp_path / "p.jsonl"
    records = [{"conversations": asked, "tools": tools}, {"prompt": asked[:1]}, {"prompt": "Why?"}]
    lines.write_text("".join(json.dumps(one) + "\n" for one in records))
    found = read_prompts(lines, settings, alone)
    assert found.messages == ((1, text), (2, "Hi"), (3, "Why?"))
    assert found.chats == {1: {"messages": turns, "tools": tools}}
    table = tmp_path / "p.csv"
    table.write_text('prompt\n"' + json.dumps(asked).replace('"', '""') + '"\n')
    found = read_prompts(table, settings, alone)
    assert (found.messages, found.chats) == (((2, text),), {2: {"messages": turns, "tools": None}})
    lines.write_text(json.dumps({"messages": asked[:2]}) + "\n")
    with pytest.raises(DataError, match=r"p\.jsonl:1, messages\[1\]\.role: the prompt ends with a message of the assistant"):
        read_prompts(lines, settings, alone)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "p.jsonl",
            '{"q": "Why?"}\n[]\nx\n',
            r"jsonl:1: no prompt in this object(.|\n)*jsonl:2: not a JSON object(.|\n)*jsonl:3: not JSON",
        ),
        ("p.txt", "\n \n", r"p\.txt: no prompts"),
        ("p.xlsx", "", r"p\.xlsx: unknown kind of file\n.*expected: *CSV"),
        ("p.txt", b"\xff", r"p\.txt: not text in UTF-8"),
    ],
)
def test_what_holds_no_prompt_is_a_mistake_in_its_place(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        read_prompts(file, experiment(), ABOUT)
    with pytest.raises(DataError, match=r"none\.csv: file not found"):
        read_prompts(tmp_path / "none.csv", experiment(), ABOUT)


def test_weights_are_planned_for_by_the_sizes_on_this_disk_and_the_container_s_limit(target: Target, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"no config\.json found"):
        held_here(target, {})
    model = tmp_path / "data" / "demo" / "qwen3-tiny"
    model.mkdir(parents=True)
    sizes = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}
    more = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True, "model_type": "qwen3"}
    (model / "config.json").write_text(json.dumps({**sizes, **more}))
    held, where = held_here(target, {"PATH": ""}, limit="2Gi")
    assert where == "data/demo/qwen3-tiny/config.json"
    assert held.cache == 2 * 28 * 8 * 128 * 4
    assert 4 * 596_000_000 < held.weights < 4 * 640_000_000, "fp32 on a CPU, and the adapter"
    assert (held.there, held.stored) == (2 << 30, 2 * 596_049_920)
    (model / "model.safetensors").write_bytes(b"1234")
    assert held_here(target, {"PATH": ""})[0].stored == 4
    with pytest.raises(MemoryShortage, match=re.escape("not enough memory: ") + r"3\.\d+ GiB \(weights 2\.\d+ GiB, 2,560 tokens"):
        uses.chat(held, 512, 1).check()
    card = held_here(target, {"PATH": ""}, card=find_gpu("H200"))[0]
    assert (card.device, card.there) == ("H200", int(0.9 * (143771 << 20)))
