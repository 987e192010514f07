"""Which blocks of a packed row's attention hold anything to see: FlexAttention's tables, made from segments and never from T²."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 128  # tokens of a block on both sides: FlexAttention's default

Numbers = NDArray[np.int64]
Blocks = NDArray[np.bool_]


def tables(lengths: Sequence[tuple[int, int, int]]) -> tuple[NDArray[np.int32], ...]:
    """The eight tensors of a ``BlockMask`` in its order: for keys, then for queries, the partial blocks and the full ones.

    ``lengths``: for each pair of the row, in order, the tokens that both answers see, and those of (chosen, rejected). Each is
    a count [1, 1, b] and indices [1, 1, b, b] for b blocks of ``BLOCK`` tokens; of b indices the first ``count`` are valid.
    """
    some, full = blocks(lengths)
    partial = some & ~full
    return tuple(table for seen in (partial, full, partial.T, full.T) for table in _ordered(seen))


def _ordered(seen: Blocks) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    first = np.argsort(~seen, axis=1, kind="stable")
    return seen.sum(1, dtype=np.int32)[None, None], first.astype(np.int32)[None, None]


def blocks(lengths: Sequence[tuple[int, int, int]]) -> tuple[Blocks, Blocks]:
    """([b, b]: blocks in which some query sees some key; [b, b]: blocks in which every query sees every key)."""
    sizes = np.array(lengths).ravel()
    segments = np.flatnonzero(sizes)
    end = np.cumsum(sizes)[segments]
    begin, total = end - sizes[segments], int(sizes.sum())
    count = -(-total // BLOCK)
    some = np.zeros((count, count), dtype=bool)
    prompt: dict[int, tuple[int, int]] = {}  # by pair: the blocks of what both answers see
    for segment, first, last in zip(segments, begin // BLOCK, (end - 1) // BLOCK, strict=True):
        pair, branch = divmod(int(segment), 3)
        if branch == 0:
            prompt[pair] = (first, last)
        for block in range(first, last + 1):
            some[block, first : block + 1] = True  # no key comes after its query
        if branch and pair in prompt:
            some[first : last + 1, prompt[pair][0] : prompt[pair][1] + 1] = True
    return some, some & _full(segments, begin, total, count)


def _full(segments: Numbers, begin: Numbers, total: int, count: int) -> Blocks:
    """[b, b]: whether every segment in the query's block sees every segment in the key's block, which lies before it."""
    edges = np.arange(count) * BLOCK
    first = segments[np.searchsorted(begin, edges, side="right") - 1]
    last = segments[np.searchsorted(begin, np.minimum(edges + BLOCK, total) - 1, side="right") - 1]
    query, query_last, key, key_last = first[:, None], last[:, None], first[None, :], last[None, :]
    is_one, is_pair = query == query_last, query // 3 == query_last // 3
    of_prompt = (key == key_last) & (key % 3 == 0) & is_pair & (query // 3 == key // 3)
    of_itself = (key == key_last) & is_one & (query == key)
    # The chosen answer follows its prompt, so one block of keys may hold the end of the prompt and its beginning.
    of_both = is_one & (key_last == query) & (query % 3 == 1) & (key == query - 1)
    before = np.arange(count)[:, None] > np.arange(count)[None, :]
    is_whole = (np.arange(1, count + 1) * BLOCK <= total)[:, None]
    return (of_prompt | of_itself | of_both) & before & is_whole
