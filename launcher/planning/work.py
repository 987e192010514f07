"""Work: upper bounds in tokens for pairs that no tokenizer has seen yet. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..data.pair import Pair
from .estimate import Work

# What a chat template adds to one prompt with its answer: role marks, and in some a system message of its own.
_TEMPLATE_TOKENS = 64


def tokens_at_most(pairs: Iterable[Pair], max_seq_length: int) -> int:
    """An upper bound of the tokens in ``pairs``: at most one per byte, and every sequence is cut at its limit."""
    return work_at_most(pairs, max_seq_length).tokens


def work_at_most(pairs: Iterable[Pair], max_seq_length: int) -> Work:
    """The same bound for everything that an estimate needs."""
    count = tokens = packed = longest = longest_pair = 0
    for pair in pairs:
        prompt = len((pair.system or "").encode()) + len(pair.user.encode()) + _TEMPLATE_TOKENS
        both = [min(max_seq_length, prompt + len(answer.encode())) for answer in (pair.chosen, pair.rejected)]
        once = max(max(both), sum(both) - min(prompt, max_seq_length))
        count, tokens, packed = count + 1, tokens + sum(both), packed + once
        longest, longest_pair = max(longest, *both), max(longest_pair, once)
    return Work(count, tokens, packed, longest, longest_pair)
