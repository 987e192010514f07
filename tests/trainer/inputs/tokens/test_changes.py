from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from launcher.data.text.pair import Pair
from launcher.errors import DataError, labelled
from launcher.experiment.schema import Experiment
from tests.trainer.inputs.tokens.chats import (
    CHATML,
    DROPS_REASONING,
    DROPS_SYSTEM,
    NO_END,
    OPEN_REASONING,
    OWN_REASONING,
    PAIRS,
    REASONED,
    tokenizer,
    with_system,
)
from trainer.inputs.tokens.tokens import tokenize

Said = Callable[..., list[str]]


@pytest.fixture
def said(tmp_path: Path) -> Said:
    """What is said of pairs with a tokenizer."""

    def run(made: Any, pairs: Iterable[Pair] = PAIRS, **hyper: Any) -> list[str]:
        experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyper})
        tokens = tokenize(tuple(pairs), made, experiment.hyperparameters, source="train.csv", cache=tmp_path)
        return [labelled(notice) for notice in tokens.notices]

    return run


def changed(pairs: Iterable[Pair], **texts: Callable[[str], str]) -> list[Pair]:
    return [
        Pair(p.system, *(texts.get(name, str)(getattr(p, name)) for name in ("user", "chosen", "rejected")), p.line)
        for p in pairs
    ]


@pytest.mark.parametrize("pairs", [PAIRS, with_system("You answer as a clerk.")])
def test_a_template_that_keeps_every_text_is_not_worth_a_word(said: Said, pairs: tuple[Pair, ...]) -> None:
    assert said(tokenizer(), pairs) == []
    merged = CHATML.replace(
        "{% for m in messages %}", "{% for m in messages %}{% if m['role'] == 'system' %}<|im_start|>user\n{% endif %}"
    )
    assert said(tokenizer(merged), pairs) == []
    marked = CHATML.replace("{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}")
    assert said(tokenizer(marked), pairs) == []


def test_a_system_text_that_reaches_no_prompt_is_a_warning(said: Said) -> None:
    assert said(tokenizer(DROPS_SYSTEM), with_system("You answer as a clerk.")) == [
        "warning: train.csv: the chat template leaves the system message out of the prompt in 2 of 2 pairs, "
        "first at train.csv:2: 'You answer as a clerk.' → "
        "'<|im_start|>user\\nWhere is it?<…m_end|>\\n<|im_start|>assistant\\n'; put it into user"
    ]
    assert len(said(tokenizer(DROPS_SYSTEM), with_system("Where"))) == 1, "a word of the question is no system text"


def test_reasoning_that_the_template_cuts_is_a_warning_and_so_is_a_prompt_that_opens_it(said: Said) -> None:
    assert said(tokenizer(DROPS_REASONING), REASONED) == [
        "warning: train.csv: in 2 of 2 pairs the training text does not begin with the inference prompt, "
        "first at train.csv:2: 'm_end|>\\n<|im_start|>assistant\\n<think>\\n' → "
        "'m_end|>\\n<|im_start|>assistant\\nAt Linden Square.<|im_end|>\\n'",
        "warning: train.csv: the chat template cuts the reasoning from 4 of 4 answers (it is not in the tokens; no setting of "
        "the template keeps it), first the chosen answer at train.csv:2: "
        "'<think>The map shows Linden.</think>At Linden Square.' → 'At Linden Square.'",
    ]


def test_the_setting_that_keeps_the_reasoning_is_named(said: Said) -> None:
    asks = CHATML.replace("{{ m['content'] }}", "{{ m['content'] if enable_thinking else m['content'].split('</think>')[-1] }}")
    (warning,) = said(tokenizer(asks), REASONED)
    assert (
        "cuts the reasoning from 4 of 4 answers (it is not in the tokens; hyperparameters.enable_thinking: true keeps it)"
        in warning
    )
    assert said(tokenizer(asks), REASONED, enable_thinking=True) == []


def test_a_think_block_that_inference_has_and_training_lacks_is_a_warning(said: Said) -> None:
    opens = CHATML.replace(
        "assistant\n{% endif %}", "assistant\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    )
    (warning,) = said(tokenizer(opens), enable_thinking=False)
    assert "in 2 of 2 pairs the training text does not begin with the inference prompt" in warning
    assert "assistant\\n<think>\\n\\n</think>\\n\\n' → " in warning
    assert said(tokenizer(opens), enable_thinking=True) == []


def test_a_think_block_that_training_has_and_cells_lack_is_a_notice(said: Said) -> None:
    assert said(tokenizer(OWN_REASONING)) == [
        "notice: train.csv: the chat template writes '<think>\\n\\n</think>\\n\\n' between the prompt and 4 of 4 answers: the "
        "model learns to write it, first the chosen answer at train.csv:2: "
        "'At Linden Square.' → '<think>\\n\\n</think>\\n\\nAt Linden Square.<|im_end|>\\n'"
    ]
    assert said(tokenizer(OWN_REASONING), enable_thinking=False) == []
    assert said(tokenizer(OWN_REASONING), REASONED) == [
        "notice: train.csv: the chat template changes white space in 4 texts, first the chosen answer at train.csv:2: "
        "'<think>The map shows Linden.</think>At Linden Square.' → "
        "'<think>\\nThe map shows Linden.\\n</think>\\n\\nAt Linden Square.'"
    ]


def test_reasoning_whose_mark_is_the_end_of_the_prompt_is_not_cut(said: Said) -> None:
    (notice,) = said(tokenizer(OPEN_REASONING), REASONED)
    assert notice.startswith("notice: train.csv: the chat template changes white space in 4 texts, first the chosen answer at")
    without, with_it = (
        REASONED[0],
        Pair(None, "How many?", "<think>\nCount.\n</think>\n\nNine.", "<think>\nNo.\n</think>\n\nSome.", 3),
    )
    assert said(tokenizer(OPEN_REASONING), [with_it]) == []
    assert len(said(tokenizer(OPEN_REASONING), [without, with_it])) == 1


def test_texts_that_lose_only_white_space_are_a_notice(said: Said) -> None:
    trims = tokenizer(CHATML.replace("m['content']", "m['content'] | trim"))
    assert said(trims, changed(PAIRS, chosen=lambda text: text + " \n")) == [
        "notice: train.csv: the chat template changes white space in 2 texts, first the chosen answer at train.csv:2: "
        "'At Linden Square. \\n' → 'At Linden Square.'"
    ]


def test_a_part_of_an_answer_that_is_cut_or_changed_is_a_warning(said: Said) -> None:
    first_word = tokenizer(CHATML.replace("m['content']", "m['content'].split(' of')[0]"))
    (warning,) = said(first_word)
    assert "cuts a part from 1 of 4 answers (it is not in the tokens; no setting of the template keeps it)" in warning
    assert warning.endswith("first the chosen answer at train.csv:3: 'Nine of them.' → 'Nine'")
    loud = said(tokenizer(CHATML.replace("m['content']", "m['content'] | upper")))
    assert [one.partition(", first")[0] for one in loud] == [
        "warning: train.csv: the chat template changes the user's text in 2 of 2 pairs",
        "warning: train.csv: the chat template changes 4 of 4 answers",
    ]
    assert loud[1].endswith("'At Linden Square.' → 'AT LINDEN SQUARE.<|im_end|>\\n'")


def test_answers_that_the_template_makes_equal_or_empty_are_mistakes_at_their_rows(said: Said) -> None:
    pairs = [
        Pair(None, "How many?", "<think>a</think>Nine.", "<think>b</think>Nine.", 2),
        Pair(None, "How many?", "<think>a</think>", "<think>b</think>Nine.", 3),
    ]
    with pytest.raises(DataError) as caught:
        said(tokenizer(DROPS_REASONING), pairs)
    assert str(caught.value) == (
        "train.csv:2: the chat template makes both answers the same: the pair states no preference\n"
        "    expected: different answers\n"
        "    found:    '<think>a</think>Nine.' and '<think>b</think>Nine.' → 'Nine.'\n"
        "    hint:     change or delete the row\n"
        "train.csv:3: the chat template leaves nothing of the chosen answer\n"
        "    expected: text that the template keeps\n"
        "    found:    '<think>a</think>' → ''"
    )


def test_answers_without_an_end_token_are_a_warning(said: Said) -> None:
    (warning,) = said(tokenizer(NO_END))
    assert warning == (
        "warning: train.csv: 4 of 4 answers end without an end token: the model does not learn to stop, first the chosen answer "
        "at train.csv:2: 'At Linden Square.' → 'ere is it?\\nassistant: At Linden Square.\\n'"
    )
    unknown = tokenizer(CHATML.replace("<|im_end|>", "<|end_of_turn|>"))
    assert "4 of 4 answers end without an end token" in said(unknown)[0], "a mark that is text to the tokenizer ends nothing"
    (notice,) = said(tokenizer(NO_END), changed(PAIRS, chosen=lambda t: t + "</s>", rejected=lambda t: t + "</s>"))
    assert notice.startswith(
        "notice: train.csv: 4 of 4 answers end with the end token of their cell: the chat template adds none"
    )
    assert "4 of 4 answers end without an end token" in said(tokenizer(None, eos=None))[0]


def test_an_end_token_in_a_cell_beside_the_template_s_own_is_a_warning(said: Said) -> None:
    assert said(tokenizer(), changed(PAIRS, chosen=lambda text: text + "<|im_end|>\n")) == [
        "warning: train.csv: 2 of 4 answers end with two end tokens, one of them in the cell; remove it there, "
        "first the chosen answer at train.csv:2: 'At Linden Square.<|im_end|>' → '\\nAt Linden Square.<|im_end|>\\n<|im_end|>\\n'"
    ]
    phi = CHATML.replace("{% endif %}", "{% else %}</s>{% endif %}")
    assert said(tokenizer(phi)) == [], "two different ones of the template's own are its way"


def test_special_tokens_inside_cells_are_a_notice_and_marks_of_reasoning_are_not(said: Said) -> None:
    assert said(tokenizer(), changed(PAIRS, user=lambda text: "<s>" + text)) == [
        "notice: train.csv: 2 texts contain special tokens, which the tokenizer does not read as text, "
        "first the user text at train.csv:2: '<s>Where is it?' → '<s>'"
    ]
    assert said(tokenizer(), REASONED) == []


def test_a_system_text_of_the_template_s_own_is_a_notice_where_no_other_is_given(said: Said) -> None:
    own = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Zoe.<|im_end|>\n{% endif %}" + CHATML
    assert said(tokenizer(own)) == ["notice: the chat template adds its own system message: 'You are Zoe.'"]
    assert said(tokenizer(own), with_system("You answer as a clerk.")) == []


def test_a_beginning_token_too_many_or_too_few_is_a_warning(said: Said) -> None:
    adds = "<s> $A"
    assert said(tokenizer("{{ bos_token }}" + CHATML, adds=adds)) == []
    assert said(tokenizer("<s>{{ bos_token }}" + CHATML, adds=adds)) == [
        "warning: the chat template writes '<s>' twice at the beginning: '<s><s><|im_start|>user\\nZquserqz<|im_end|>\\n'"
    ]
    assert said(tokenizer(CHATML, adds=adds)) == [
        "warning: the chat template writes no '<s>', which the tokenizer puts before plain text, and none is added: "
        "'<|im_start|>user\\nZquserqz<|im_end|>\\n'"
    ]


def test_tokens_that_merge_are_told_from_text_that_differs(said: Said) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(["to:Nine to:Nine to:Nine " * 30], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", pad_token="</s>")
    made.chat_template = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    assert said(made, [Pair(None, "How many? t", "o:Nine", "some", 2)]) == [
        "notice: train.csv: in 1 of 1 pairs the tokenizer merges the end of the prompt with the answer"
    ]
    assert said(made, [Pair(None, "How many? t", "Nine", "some", 2)]) == []
    assert not any("merges" in one for one in said(tokenizer(DROPS_REASONING), REASONED))
