"""Pairs of random ids in the shapes that the benchmarks compare, and what the planner counts of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
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


def make_pairs(shape: Shape, count: int, vocabulary: int, scale: int = 1) -> list[Any]:
    """``count`` pairs of ids from 2 to ``vocabulary`` - 1, ``scale`` times as long as ``shape``."""
    from trainer.inputs.tokens import TokenPair

    rng = random.Random(1)

    def ids(limits: tuple[int, int]) -> list[int]:
        return [rng.randint(2, vocabulary - 1) for _ in range(scale * shape.length(rng, limits))]

    return [TokenPair(ids(shape.prompt), ids(shape.answer), ids(shape.answer), line) for line in range(count)]


def work_of(pairs: Sequence[Any]) -> Any:
    """The planner's ``Work`` of one epoch of ``pairs``, counted."""
    from launcher.planning.work import Work
    from trainer.step.packing import packed_length

    return Work(
        pairs=len(pairs),
        tokens=sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs),
        packed=sum(map(packed_length, pairs)),
        longest=max(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs),
        longest_pair=max(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs),
        exact=True,
    )
