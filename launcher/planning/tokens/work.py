"""Work: upper bounds in tokens for pairs that no tokenizer has seen yet. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ...data.text.pair import Pair

# What a chat template adds to one prompt with its answer: role marks, and in some a system message of its own.
_TEMPLATE_TOKENS = 64
_MESSAGE_TOKENS = 16  # to each message of a conversation
_TOOLS_TOKENS = 512  # to the schemas of tools: how to call them


@dataclass(frozen=True)
class Work:
    """The training pairs of one epoch. ``exact``: counted by the tokenizer, else bounds from above."""

    pairs: int
    tokens: int  # as the plain path counts: every prompt twice
    packed: int  # every prompt once
    longest: int  # of a prompt with one answer
    longest_pair: int  # of a prompt with both
    exact: bool = False
    held_out: int = 0  # validation pairs
    answer_tokens: int | None = None  # where a pair has one answer; else they follow from ``tokens`` and ``packed``
    longest_pairs: tuple[int, ...] = ()  # of the longest ones, longest first; those that are not known may be as long as the last

    @classmethod
    def at_most(cls, longest: int, pairs: int, *, answers: int = 2) -> Work:
        """A bound from the longest sequence alone: every pair is one for each of its ``answers``, without a prompt."""
        tokens = answers * longest * pairs
        return cls(pairs, tokens, tokens, longest, answers * longest, answer_tokens=tokens if answers == 1 else None)

    def longest_together(self, count: int) -> int:
        """Tokens of the ``count`` longest pairs, at most."""
        known = (self.longest_pairs or (self.longest_pair,))[:count]
        return sum(known) + (min(count, self.pairs) - len(known)) * known[-1]

    @property
    def sequences(self) -> int:
        """How many sequences of a pair the plain path computes: a prompt with each of its answers."""
        return 2 if self.answer_tokens is None else 1

    @property
    def answers(self) -> int:
        """Tokens of the answers, which the loss is computed on."""
        return max(0, 2 * self.packed - self.tokens) if self.answer_tokens is None else self.answer_tokens


def tokens_at_most(pairs: Iterable[Pair], max_seq_length: int) -> int:
    """An upper bound of the tokens in ``pairs``: at most one per byte, and every sequence is cut at its limit."""
    return work_at_most(pairs, max_seq_length).tokens


def work_at_most(pairs: Iterable[Pair], max_seq_length: int, batch: int = 1) -> Work:
    """The same bound for everything that an estimate needs; ``batch``: of so many pairs the lengths are kept."""
    tokens = longest = learned = 0
    has_both = True
    lengths = []
    for pair in pairs:
        prompt = len((pair.system or "").encode()) + len(pair.user.encode()) + _TEMPLATE_TOKENS + _of_chat(pair)
        answers = [answer for answer in (pair.chosen, pair.rejected) if answer is not None]
        both = [min(max_seq_length, prompt + len(answer.encode())) for answer in answers]
        lengths.append(max(max(both), sum(both) - min(prompt, max_seq_length)))
        tokens, longest = tokens + sum(both), max(longest, *both)
        learned += min(max_seq_length, len(pair.chosen.encode()))
        has_both = has_both and len(answers) > 1
    most = tuple(sorted(lengths, reverse=True)[:batch])
    return Work(len(lengths), tokens, sum(lengths), longest, max(most, default=0), False, 0, None if has_both else learned, most)


def _of_chat(pair: Pair) -> int:
    """Tokens that a chat template adds to the messages and tools of a conversation, at most."""
    chat = pair.chat
    if chat is None:
        return 0
    messages = len(chat.prompt) + max(map(len, chat.answers))
    tools = len(json.dumps(chat.tools).encode()) + _TOOLS_TOKENS if chat.tools else 0
    return _MESSAGE_TOKENS * messages + tools
