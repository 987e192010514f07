"""FlexAttention's block tables for a packed row, computed from its segments without a T × T mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 128  # tokens per block in queries and keys, FlexAttention's default


def up(count: int, block: int = BLOCK) -> int:
    """``count`` rounded up to a multiple of ``block``."""
    return -(-count // block) * block


Numbers = NDArray[np.int64]
Blocks = NDArray[np.bool_]


def tables(
    lengths: Sequence[tuple[int, int, int]] | Numbers, window: int = 0, positions: Numbers | None = None
) -> NDArray[np.int32]:
    """The eight tensors of a ``BlockMask`` in its order: for keys, then for queries, the partial blocks and the full ones.

    ``lengths``: for each pair of the row, in order, the tokens of (shared prompt, chosen, rejected). Each table is a count [b]
    and indices [b, b] for b blocks of ``BLOCK`` tokens, flattened into one of the four rows of [4, b + b²]. Of b indices the
    first ``count`` are valid. ``window``: positions that a token sees, including its own; 0: all. ``positions``: [T], of the
    tokens; needed for a window.
    """
    some, full = blocks(lengths)
    if window:
        assert positions is not None, "a window counts them"
        lowest, highest = _range(positions)
        some &= lowest[:, None] - highest < window
        full &= highest[:, None] - lowest < window
    partial = some & ~full
    seen = np.stack([partial, full, partial.T, full.T])
    count = len(some)
    rows, indices = np.divmod(np.flatnonzero(seen), count)
    counts = np.bincount(rows, minlength=4 * count)
    place, row = np.divmod(rows, count)
    found = np.zeros((4, count + count**2), np.int32)
    found[:, :count] = counts.reshape(4, count)
    found[place, count + row * count + np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]] = indices
    return found


def blocks(lengths: Sequence[tuple[int, int, int]] | Numbers) -> tuple[Blocks, Blocks]:
    """([b, b]: some query in the block sees some key; [b, b]: every query sees every key)."""
    sizes = np.array(lengths).ravel()
    segments = np.flatnonzero(sizes)
    total, ends = int(sizes.sum()), np.cumsum(sizes)
    begin = (ends - sizes)[segments]
    count = -(-total // BLOCK)
    edges = np.arange(count) * BLOCK
    first = np.searchsorted(begin, edges, side="right") - 1  # indices in ``segments`` of each block's first and last segment
    last = np.searchsorted(begin, np.minimum(edges + BLOCK, total) - 1, side="right") - 1
    before = np.tri(count, k=-1, dtype=bool)
    # Keys never follow their query: a block sees keys from the beginning of its first segment.
    some = np.tri(count, dtype=bool) & (np.arange(count) >= (begin[first] // BLOCK)[:, None])
    for (of_prompt, _, _), (end, _, after) in zip(sizes.reshape(-1, 3).tolist(), ends.reshape(-1, 3).tolist(), strict=True):
        if of_prompt and after > end:  # both answers see the prompt
            some[end // BLOCK : (after - 1) // BLOCK + 1, (end - of_prompt) // BLOCK : (end - 1) // BLOCK + 1] = True
    is_whole = np.arange(1, count + 1) * BLOCK <= total
    return some, some & before & _full(segments[first], segments[last], is_whole)


def _range(positions: Numbers) -> tuple[Numbers, Numbers]:
    """([b]: the lowest position in each block; [b]: the highest)."""
    edges = np.arange(0, len(positions), BLOCK)
    return np.minimum.reduceat(positions, edges), np.maximum.reduceat(positions, edges)


def _full(first: Numbers, last: Numbers, is_whole: Blocks) -> Blocks:
    """[b, b]: whether every segment in the query's block sees every segment in an earlier key's block.

    ``first`` and ``last``: [b], the first and last segment in each block. ``is_whole``: [b], false for a block at a row's end.
    """
    is_one = first == last
    query = np.where(is_one & is_whole, first, -2)
    pair = np.where((first // 3 == last // 3) & is_whole, first // 3, -2)
    itself = np.where(is_one, first, -1)
    prompt = np.where(is_one & (first % 3 == 0), first // 3, -1)
    # The chosen answer follows its prompt, so a block of keys may hold the prompt's end and the answer's beginning.
    both = np.where((last % 3 == 1) & (first == last - 1), last, -1)
    return (pair[:, None] == prompt) | (query[:, None] == itself) | (query[:, None] == both)
