"""The texts of pairs that are too large for memory, and of pairs that were looked at before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.data.tables.streamed import Streamed
from launcher.data.text.pair import Pair
from launcher.errors import DataError, labelled
from launcher.experiment.schema import Experiment
from trainer.inputs.tokens import texts
from trainer.inputs.tokens.tokens import Tokens, tokenize

PAIRS = [Pair("You help.", f"Why {n}?", f"Because of {n}.", "No idea.", n + 2) for n in range(9)]


class Counting:
    """A tokenizer that notes how many conversations it renders at a time."""

    def __init__(self, tokenizer: Any):
        self.sizes: list[int] = []
        self._render = tokenizer.apply_chat_template
        tokenizer.apply_chat_template = self

    def __call__(self, conversations: Sequence[Any], **options: Any) -> Any:
        self.sizes.append(len(conversations))
        return self._render(conversations, **options)


@pytest.fixture
def made(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def encode(made: Any, make_experiment: Callable[..., Experiment], tmp_path: Path) -> Callable[..., Tokens]:
    def tokens(pairs: Sequence[Pair], cache: str = "cache", **hyper: Any) -> Tokens:
        return tokenize(pairs, made, make_experiment(**hyper).hyperparameters, source="pairs.csv", cache=tmp_path / cache)

    return tokens


def streamed(pairs: Sequence[Pair]) -> Streamed[Pair]:
    return Streamed(len(pairs), lambda: iter(pairs))


def test_pairs_that_are_not_in_memory_have_the_same_tokens_made_a_chunk_at_a_time(
    made: Any, encode: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "CHUNK", 4)
    pairs = [*PAIRS, Pair(None, "Why <|im_end|> 0?", "So", "No", 11), PAIRS[0]]
    whole = encode(pairs, "whole")
    rendered = Counting(made)
    chunked = encode(streamed(pairs), "chunked")
    assert (chunked.pairs, chunked.notices, chunked.answers) == (whole.pairs, whole.notices, whole.answers)
    assert chunked.answers is not None
    assert chunked.answers.repeated == 1
    assert max(rendered.sizes) == 4


def test_what_was_looked_at_before_is_not_rendered_again(made: Any, encode: Callable[..., Tokens]) -> None:
    pairs = [*PAIRS, Pair(None, "Why <|im_end|> 0?", "So", "No", 11)]
    first = encode(pairs)
    assert [one for one in first.notices if "special tokens" in one]
    rendered = Counting(made)
    assert encode(pairs) == first
    assert [labelled(one) for one in encode(streamed(pairs)).notices] == [labelled(one) for one in first.notices]
    assert set(rendered.sizes) == {1}  # Frame's conversation of three words
    rendered.sizes.clear()
    moved = encode([Pair(None, "Why <|im_end|> 0?", "So", "No", 12), *PAIRS])
    assert "pairs.csv:12" in " ".join(moved.notices)
    assert max(rendered.sizes) == 10


def test_another_template_or_setting_is_looked_at_anew(made: Any, encode: Callable[..., Tokens]) -> None:
    first = encode(PAIRS)
    made.chat_template = made.chat_template.replace("<|im_start|>", "<|im_start|>so ")
    assert encode(PAIRS).pairs != first.pairs
    with pytest.raises(DataError):
        encode(PAIRS, max_seq_length=8)


def test_every_pair_that_a_template_refuses_is_named_whatever_its_chunk(
    made: Any, encode: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "CHUNK", 4)
    refuses = (
        "{% if 'Why 1?' in messages[-1].content or 'Why 8?' in messages[-1].content %}{{ raise_exception('no') }}{% endif %}"
    )
    made.chat_template = refuses + made.chat_template
    with pytest.raises(DataError) as caught:
        encode(streamed(PAIRS))
    assert [mistake.where for mistake in caught.value.mistakes] == ["pairs.csv:3", "pairs.csv:10"]


def test_another_version_of_transformers_renders_again(
    made: Any, encode: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(PAIRS)
    rendered = Counting(made)
    encode(PAIRS)
    before = len(rendered.sizes)
    texts._code.cache_clear()
    monkeypatch.setattr(texts, "version", lambda name: f"{name} of tomorrow", raising=False)
    encode(PAIRS)
    texts._code.cache_clear()
    assert len(rendered.sizes) - before > before
