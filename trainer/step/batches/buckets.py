"""The row lengths on a GPU: few, because kernels are compiled for each length, and close to the lengths in the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ...inputs.tokens.token_pairs import Numbers
from .blocks import BLOCK, up
from .packing import first_fit

MOST: Final = 8  # lengths
SAMPLE: Final = 512  # steps sampled as representative of all,
PAIRS: Final = 2**14  # with at most this many pairs


@dataclass(frozen=True)
class Buckets:
    """``budget``: maximum tokens of a row with several pairs. ``lengths``: padded row lengths, ascending multiples of BLOCK."""

    budget: int
    lengths: tuple[int, ...] = ()

    @classmethod
    def of(cls, sizes: Numbers, together: int, budget: int) -> Buckets:
        """The ``MOST`` lengths that need the least padding for steps of ``together`` pairs.

        ``sizes``, [n]: tokens of each pair. ``budget``: maximum tokens of a row. The longest sampled row becomes the new
        budget, which is never larger, so that other passes need no further length. Deterministic: a resumed run has the same
        lengths.
        """
        rows = _rows(sizes, together, budget)
        within = rows[rows <= budget]
        return cls(int(within.max()) if len(within) else budget, _least_padding(rows))

    def padded(self, length: int) -> int:
        """The shortest length that holds ``length`` tokens; beyond the longest, the next multiple of BLOCK."""
        return next((one for one in self.lengths if one >= length), up(length))


def _rows(sizes: Numbers, together: int, budget: int) -> Numbers:
    """[m]: tokens of the rows of up to ``SAMPLE`` steps, and of the longest pair alone."""
    order = np.random.default_rng(0).permutation(len(sizes))[: max(together, min(SAMPLE * together, PAIRS))]
    found = [int(sizes.max())]
    for begin in range(0, len(order), together):
        step = sizes[order[begin : begin + together]]
        found += [int(step[row].sum()) for row in first_fit(step, budget)]
    return np.array(found)


def _least_padding(rows: Numbers) -> tuple[int, ...]:
    """At most ``MOST`` multiples of BLOCK that cover all rows with the least padding, by dynamic programming."""
    ends, counts = np.unique(-(-rows // BLOCK) * BLOCK, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: tokens of the rows from end i to end j, all padded to end j; a row before its own beginning has none
    cost = np.triu(ends * (below[1:] - below[:-1, None])) + np.where(np.tri(len(ends), k=-1) > 0, np.inf, 0)
    best, before = cost[0], []
    for _ in range(min(MOST, len(ends)) - 1):
        # One more length: ends before i as before, those from i on padded to end j.
        whole = np.concatenate([[0], best[:-1]])[:, None] + cost
        before.append(whole.argmin(axis=0))
        best = whole.min(axis=0)
    end, found = len(ends) - 1, []
    for choice in reversed(before):
        found.append(int(ends[end]))
        end = int(choice[end]) - 1
        if end < 0:
            return tuple(reversed(found))
    return tuple(reversed([*found, int(ends[end])]))
