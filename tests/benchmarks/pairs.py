"""Pairs of random ids in the shapes that the benchmarks compare, and what the planner counts of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Shape:
    """Tokens of prompts and answers, from and to; ``skewed``: as many between 10 and 20 as between 200 and 400."""

    prompt: tuple[int, int]
    answer: tuple[int, int]
    skewed: bool = False
    per_device: int = 8  # pairs of a batch; TRL's default

    def length(self, rng: random.Random, limits: tuple[int, int]) -> int:
        low, high = limits
        return round(low * (high / low) ** rng.random()) if self.skewed else rng.randint(low, high)


SHAPES: Final = {
    "short prompt": Shape((30, 90), (120, 260)),
    "long prompt": Shape((400, 560), (30, 80)),
    "uneven": Shape((15, 400), (15, 400), skewed=True),
    "2k prompt": Shape((1900, 2100), (60, 120), per_device=2),
}


def make_pairs(shape: Shape, count: int, vocabulary: int, scale: int = 1) -> Any:
    """``count`` ``TokenPairs`` of ids from 2 to ``vocabulary`` - 1, ``scale`` times as long as ``shape``."""
    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs

    rng = random.Random(1)

    def ids(limits: tuple[int, int]) -> list[int]:
        return [rng.randint(2, vocabulary - 1) for _ in range(scale * shape.length(rng, limits))]

    return TokenPairs.of(TokenPair(ids(shape.prompt), ids(shape.answer), ids(shape.answer), line) for line in range(count))


def work_of(pairs: Any, batch: int = 1) -> Any:
    """The planner's ``Work`` of one epoch of ``pairs``, counted; steps hold ``batch`` of them."""
    from launcher.planning.tokens.work import Work
    from trainer.inputs.tokens.tokens import Tokens
    from trainer.step.batches.packing import packed_lengths

    return Work(
        pairs=len(pairs),
        tokens=Tokens(pairs, 0).total,
        packed=int(packed_lengths(pairs).sum()),
        longest=Tokens(pairs, 0).longest,
        longest_pair=int(pairs.lengths.sum(axis=1).max()),
        exact=True,
        longest_pairs=tuple(sorted(pairs.lengths.sum(axis=1).tolist(), reverse=True)[:batch]),
    )
