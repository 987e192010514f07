"""Token ids in flat arrays: what they take in memory, and that they are the lists that were put in."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.inputs.tokens.template import Texts
from trainer.inputs.tokens.token_cache import read_ids, write_ids
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.inputs.tokens.tokens import Tokens, encode

MIB = 2**20
COUNT = 20_000  # pairs of 440 tokens, as a tenth of the 200,000 that a rank must hold in 0.4 GiB
IDS = st.lists(st.integers(0, 99), max_size=5)
LISTS = st.lists(st.builds(TokenPair, IDS, IDS, IDS, st.integers(2, 99)), max_size=12)


@pytest.fixture(scope="module")
def many() -> TokenPairs:
    lengths = np.tile(np.array([60, 190, 190]), (COUNT, 1))
    prompt, chosen, rejected = (np.arange(COUNT * n, dtype=np.int32) % 150_000 for n in (60, 190, 190))
    return TokenPairs.joined((prompt, chosen, rejected), lengths, np.arange(COUNT))


@contextmanager
def peak_below(limit: float) -> Iterator[None]:
    """Fails where Python, numpy and Arrow together hold more than ``limit`` MiB at any moment."""
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), pool.max_memory()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] + (pool.max_memory() - before if pool.max_memory() > most else 0)
    finally:
        tracemalloc.stop()
    assert peak <= limit * MIB, f"{peak / MIB:.1f} MiB"


def test_pairs_are_tokenized_without_more_than_their_arrays_and_a_batch() -> None:
    class Tokenizer:
        """Texts that have as many characters as ids."""

        def __init__(self) -> None:
            self.ids = {length: [300 + length + n for n in range(length)] for length in (60, 250, 251)}

        def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, Any]:
            return {"input_ids": [[*self.ids[60], *self.ids[len(text)][60:]] for text in texts]}

    count = COUNT // 4
    texts = [Texts("p" * 60, "c" * 250, "r" * 251)] * count
    tokenizer = Tokenizer()
    template: Any = SimpleNamespace(tokenizer=tokenizer, is_chat=True, adds_eos=False)
    with peak_below(10 + 4):  # 4 for the batch under way
        pairs, lost = encode(texts, range(count), template)
    assert pairs.nbytes <= 10 * MIB
    assert pairs[count - 1] == TokenPair(tokenizer.ids[60], tokenizer.ids[250][60:], tokenizer.ids[251][60:], count - 1)
    assert not lost.any()


def test_the_cache_is_written_and_read_without_a_second_copy(many: TokenPairs, tmp_path: Path) -> None:
    file, lost = tmp_path / "ids.parquet", np.arange(COUNT)
    write_ids(file, many[:1], lost[:1])  # what pyarrow imports meanwhile is no memory of the ids
    with peak_below(16):
        write_ids(file, many, lost)
    with peak_below(56):
        found = read_ids(file, range(COUNT))
    assert found is not None
    assert found[0] == many
    assert found[0].nbytes <= 40 * MIB
    assert (found[1] == lost).all()


def test_the_data_set_of_the_plain_path_is_made_over_the_same_memory(many: TokenPairs) -> None:
    import datasets  # noqa: F401

    with peak_below(4):
        found = Tokens(many, 0).dataset(torch.arange(2.0 * COUNT).view(-1, 2))
    for ids, name in zip(many.ids, ("prompt_ids", "chosen_ids", "rejected_ids"), strict=True):
        (chunk,) = found.data.column(name).chunks
        assert chunk.values.buffers()[1].address == ids.ctypes.data
    last = many[COUNT - 1]
    assert found[COUNT - 1] == {
        "prompt_ids": last.prompt,
        "chosen_ids": last.chosen,
        "rejected_ids": last.rejected,
        "ref_chosen_logps": 2.0 * COUNT - 2,
        "ref_rejected_logps": 2.0 * COUNT - 1,
    }


def test_a_cache_of_64_bit_numbers_is_read_too(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    file = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"prompt": [[1], []], "chosen": [[2, 3], [4]], "rejected": [[5], [6]], "lost": [0, 1]}), file)
    found = read_ids(file, [7, 8])
    assert found is not None
    assert list(found[0]) == [TokenPair([1], [2, 3], [5], 7), TokenPair([], [4], [6], 8)]
    assert found[1].tolist() == [0, 1]
    assert read_ids(file, [7]) is None, "another number of pairs"
    assert read_ids(tmp_path / "none", [7]) is None


def test_a_cache_of_which_a_byte_has_changed_is_not_read(tmp_path: Path) -> None:
    file, pairs = tmp_path / "ids.parquet", TokenPairs.of([TokenPair([1, 2], [3], [4], 7)])
    write_ids(file, pairs, np.zeros(1, np.int64))
    (written,) = tmp_path.iterdir()
    content = written.read_bytes()
    for place in (0, 4, 20, len(content) // 2, len(content) - 1):  # Arrow itself ends the process at some
        written.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        assert read_ids(file, [7]) is None
    written.write_bytes(content)
    assert read_ids(file, [7]) is not None


@given(LISTS, st.randoms())
def test_pairs_are_the_lists_they_were_made_of_in_any_selection(lists: list[TokenPair], random: Any) -> None:
    pairs = TokenPairs.of(lists)
    assert list(pairs) == lists
    assert pairs == TokenPairs.of(lists)
    assert list(pairs[::-1]) == lists[::-1]
    places = [random.randrange(len(lists)) for _ in range(5)] if lists else []
    some = [lists[place] for place in places]
    assert list(pairs.take(places)) == some
    assert pairs.take(places) == TokenPairs.of(some), "equal, though the ids lie elsewhere"
    assert [[part.tolist() for part in three] for three in pairs.take(places).arrays()] == [
        [pair.prompt, pair.chosen, pair.rejected] for pair in some
    ]
    assert pairs.holding(lambda ids: ids > 90).tolist() == [
        any(number > 90 for number in (*pair.prompt, *pair.chosen, *pair.rejected)) for pair in lists
    ]
    kept = np.minimum(pairs.lengths, [9, 2, 3])
    assert list(pairs.cut(kept)) == [TokenPair(p.prompt, p.chosen[:2], p.rejected[:3], p.line) for p in lists]
    assert Tokens(pairs.take(places), 0).dataset()[:]["chosen_ids"] == [pair.chosen for pair in some]


@pytest.mark.parametrize(
    "other", [TokenPair([1], [2, 3], [4], 6), TokenPair([1], [2], [3, 4], 5), TokenPair([1], [2, 9], [4], 5)]
)
def test_pairs_differ_in_an_id_a_boundary_or_a_line(other: TokenPair) -> None:
    one = TokenPairs.of([TokenPair([1], [2, 3], [4], 5)])
    assert one != TokenPairs.of([other])
    assert one != TokenPairs.of([])
    with pytest.raises(IndexError):
        one[1]


def test_what_is_cut_off_leaves_the_memory(many: TokenPairs) -> None:
    cut = many.cut(np.minimum(many.lengths, 60))
    assert sum(ids.nbytes for ids in cut.ids) == COUNT * 180 * 4
    assert cut[5].rejected == many[5].rejected[:60]
