"""The lengths in tokens and the pair that `launcher data` shows."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainer.inputs.tokens.preview import examples, lengths, shown
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs


@pytest.fixture(scope="module")
def of_bytes() -> PreTrainedTokenizerFast:
    """A token for each byte, as the parts of an emoji are in a tokenizer that lacks it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: number for number, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_lengths_are_counted_before_the_cut_and_say_how_many_lose_their_end() -> None:
    pairs = TokenPairs.of([TokenPair([1] * 4, [1] * 3, [1] * 9, 2), TokenPair([1] * 6, [1] * 5, [1] * 2, 3)])
    found = lengths(pairs, 10)
    bins = {name: part.pop("bins") for name, part in found["parts"].items()}
    assert found["parts"]["prompt"] == {"median": 4, "high": 6, "longest": 6, "cut": 0}
    assert found["parts"]["chosen"] == {"median": 3, "high": 5, "longest": 5, "cut": 1}
    assert found["parts"]["rejected"] == {"median": 2, "high": 9, "longest": 9, "cut": 1}
    assert bins["prompt"] == {"begin": 0, "width": 1, "counts": (0, 0, 0, 0, 1, 0, 1), "low": 4, "high": 6}
    assert found["bias"].pop("bins") == {"begin": -6, "width": 1, "counts": (1, *[0] * 8, 1), "low": -6, "high": 3}
    assert found["bias"] == {"share": 0.5, "median": -6}


def test_the_first_pair_one_that_is_cut_and_the_longest_are_examples(of_bytes: PreTrainedTokenizerFast) -> None:
    sizes = [(2, 3, 3), (2, 9, 3), (2, 3, 3), (2, 3, 20)]
    pairs = TokenPairs.of([TokenPair([5] * p, [6] * c, [7] * r, line) for line, (p, c, r) in enumerate(sizes, 2)])
    found = [(one["line"], one["why"], len(one["rejected"]["cut"])) for one in examples(pairs, 10, of_bytes)]
    assert found == [(2, "the first pair", 0), (3, "an answer is cut", 0), (5, "the longest pair", 12)]
    assert [one["why"] for one in examples(pairs, 99, of_bytes)] == ["the first pair", "the longest pair"]


def test_a_pair_is_shown_token_by_token_with_the_cut_and_a_character_of_several_tokens_once(
    of_bytes: PreTrainedTokenizerFast,
) -> None:
    def ids(text: str) -> list[int]:
        return list(of_bytes(text)["input_ids"])

    found = shown(TokenPair(ids("Hi"), ids("ok 🙂!"), ids("no"), 7), 7, of_bytes)
    assert found["line"] == 7
    assert found["prompt"] == ["H", "i"]
    assert found["chosen"]["kept"] + found["chosen"]["cut"] == ["o", "k", " ", "", "", "", "🙂", "!"]
    assert found["chosen"]["cut"] == ["", "🙂", "!"]
    assert found["rejected"] == {"kept": ["n", "o"], "cut": []}
