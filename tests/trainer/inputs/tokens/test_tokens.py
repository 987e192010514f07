from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.data.text.pair import Pair
from launcher.errors import DataError, labelled
from launcher.experiment.schema import Experiment
from trainer.inputs.tokens.tokens import Tokens, tokenize

PAIRS = (
    Pair("You help.", "Why is the sky blue?", "Short light scatters more.", "It is a matter of so many different things.", 2),
    Pair(None, "How long do eggs boil?", "Seven minutes for a soft yolk.", "It varies.", 3),
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def encode(tokenizer: Any, make_experiment: Callable[..., Experiment], tmp_path: Path) -> Callable[..., Tokens]:
    def run(pairs: tuple[Pair, ...] = PAIRS, **hyper: Any) -> Tokens:
        return tokenize(pairs, tokenizer, make_experiment(**hyper).hyperparameters, source="pairs.csv", cache=tmp_path)

    return run


def test_the_ids_are_the_chat_template_applied_to_the_whole_conversation(encode: Callable[..., Tokens], tokenizer: Any) -> None:
    first = encode().pairs[0]
    assert tokenizer.decode(first.prompt) == (
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(first.chosen) == "Short light scatters more.<|im_end|>\n"
    assert tokenizer.decode(first.rejected) == "It is a matter of so many different things.<|im_end|>\n"


def test_trl_makes_the_same_ids_of_the_same_conversation(encode: Callable[..., Tokens], tokenizer: Any) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [
        {
            "prompt": [{"role": "user", "content": PAIRS[1].user}],
            "chosen": [{"role": "assistant", "content": PAIRS[1].chosen}],
            "rejected": [{"role": "assistant", "content": PAIRS[1].rejected}],
        }
    ]
    trl = DPOTrainer.__new__(DPOTrainer)
    trl._tokenizer = tokenizer
    config = DPOConfig(output_dir="unused", bf16=False, use_cpu=True)
    (theirs,) = DPOTrainer._prepare_dataset(trl, Dataset.from_list(rows), tokenizer, config, "train")
    ours = encode().pairs[1]
    assert (theirs["prompt_ids"], theirs["chosen_ids"], theirs["rejected_ids"]) == (ours.prompt, ours.chosen, ours.rejected)


def test_an_answer_is_cut_at_its_end_and_the_cut_is_said(encode: Callable[..., Tokens]) -> None:
    whole = encode()
    limit = whole.longest - 1
    cut = encode(max_seq_length=limit)
    assert cut.longest == limit
    assert cut.pairs[0].prompt == whole.pairs[0].prompt
    assert cut.notices == (
        f"pairs.csv: {cut.cut} of 4 answers are longer than max_seq_length ({limit}) and are cut; "
        "raise hyperparameters.max_seq_length to keep them whole",
    )
    assert labelled(cut.notices[0]).startswith("warning: ")
    assert cut.cut == 1


def test_a_prompt_that_fills_the_length_is_a_mistake_at_its_line(encode: Callable[..., Tokens]) -> None:
    with pytest.raises(DataError) as caught:
        encode(max_seq_length=20)
    text = str(caught.value)
    assert "pairs.csv:2: the prompt leaves no room for an answer" in text
    assert "expected: a prompt shorter than max_seq_length (20 tokens)" in text


def test_answers_that_differ_only_behind_the_cut_are_a_mistake(encode: Callable[..., Tokens]) -> None:
    pair = Pair(None, "Count.", "one two three four five six SEVEN", "one two three four five six EIGHT", 9)
    whole = encode((pair,))
    limit = len(whole.pairs[0].prompt) + 3
    with pytest.raises(DataError, match=r"pairs.csv:9: both answers are identical after the cut at max_seq_length"):
        encode((pair,), max_seq_length=limit)


def test_the_cache_serves_the_same_text_and_survives_a_damaged_file(encode: Callable[..., Tokens], tmp_path: Path) -> None:
    first = encode()
    (file,) = (tmp_path / "tokens").iterdir()
    written = file.stat().st_mtime_ns
    assert encode() == first
    assert file.stat().st_mtime_ns == written, "served, not written again"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:8] + bytes(len(whole) - 200) + whole[-192:]):
        file.write_bytes(damaged)
        assert encode() == first
        assert file.stat().st_size > 0


def test_another_text_and_another_template_option_are_other_cache_entries(encode: Callable[..., Tokens], tmp_path: Path) -> None:
    encode()
    encode(PAIRS[:1])
    encode(add_generation_prompt=False)
    assert len(list((tmp_path / "tokens").iterdir())) == 3


def test_a_template_option_that_the_template_ignores_is_said(encode: Callable[..., Tokens]) -> None:
    assert encode(enable_thinking=False).notices == ("enable_thinking has no effect: the chat template does not use it",)


def test_a_tokenizer_without_a_template_gets_plain_text_with_an_end(
    make_experiment: Callable[..., Experiment], tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tiny_model)
    plain.chat_template = None
    tokens = tokenize(PAIRS, plain, make_experiment().hyperparameters, source="pairs.csv", cache=tmp_path)
    assert plain.decode(tokens.pairs[0].prompt) == "You help.\n\nWhy is the sky blue?\n\n"
    assert plain.decode(tokens.pairs[1].chosen) == "Seven minutes for a soft yolk.<|im_end|>"
    assert tokens.notices == ("the tokenizer has no chat template: prompts are plain text",)
