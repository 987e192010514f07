"""Blocks of log lines with enough steps and pairs for a mean above noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from typing_extensions import TypeIs

STEPS: Final = 10  # of a block at least
PAIRS: Final = 128
LINES: Final = 5
_PARTS: Final = 50  # blocks of a run at most, so that a rule may look at all of them
_NAMES: Final = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/reversed",
    "logps/chosen",
    "gpu_use",
)


def is_number(value: object) -> TypeIs[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass
class Block:
    """Sums over the pairs of some lines. ``learning_rate`` is the last line's."""

    first: int
    last: int
    pairs: float = 0.0
    lines: int = 0
    learning_rate: float | None = None
    _sums: dict[str, float] = field(default_factory=dict)
    _weights: dict[str, float] = field(default_factory=dict)
    _squares: dict[str, float] = field(default_factory=dict)  # of the lines' means, weighted alike
    _variance: list[float] = field(default_factory=lambda: [0.0, 0.0])  # of single pairs' margins: sum, weight
    _correlation: list[float] = field(default_factory=lambda: [0.0, 0.0])  # Fisher's z: sum, weight
    _third: list[float] = field(default_factory=lambda: [0.0] * 3)  # of margins: third and second central moment, weight

    def add(self, event: Mapping[str, Any], pairs: float) -> None:
        self.last, self.lines, self.pairs = int(event["step"]), self.lines + 1, self.pairs + pairs
        for name in _NAMES:
            if is_number(value := event.get(name)):
                self._sums[name] = self._sums.get(name, 0.0) + pairs * value
                self._squares[name] = self._squares.get(name, 0.0) + pairs * value * value
                self._weights[name] = self._weights.get(name, 0.0) + pairs
        if is_number(rate := event.get("learning_rate")):
            self.learning_rate = rate
        if is_number(spread := event.get("rewards/margins_std")):
            self._variance = [self._variance[0] + pairs * spread**2, self._variance[1] + pairs]
            if is_number(skew := event.get("rewards/margins_skew")):
                self._third = [
                    self._third[0] + pairs * skew * spread**3,
                    self._third[1] + pairs * spread**2,
                    self._third[2] + pairs,
                ]
        weight = pairs - 3  # the inverse of the variance of Fisher's z
        if weight > 0 and is_number(found := event.get("rewards/length_correlation")):
            z = math.atanh(max(-0.999, min(0.999, found)))
            self._correlation = [self._correlation[0] + weight * z, self._correlation[1] + weight]

    @classmethod
    def pooled(cls, blocks: Iterable[Block]) -> Block:
        """All of them merged into one."""
        every = list(blocks)
        whole = cls(every[0].first, every[-1].last, learning_rate=every[-1].learning_rate)
        for one in every:
            whole.pairs, whole.lines = whole.pairs + one.pairs, whole.lines + one.lines
            for mine, other in ((whole._sums, one._sums), (whole._weights, one._weights), (whole._squares, one._squares)):
                for name, value in other.items():
                    mine[name] = mine.get(name, 0.0) + value
            whole._variance = [a + b for a, b in zip(whole._variance, one._variance, strict=True)]
            whole._correlation = [a + b for a, b in zip(whole._correlation, one._correlation, strict=True)]
            whole._third = [a + b for a, b in zip(whole._third, one._third, strict=True)]
        return whole

    def mean(self, name: str) -> float | None:
        weight = self._weights.get(name, 0.0)
        return self._sums[name] / weight if weight else None

    def count(self, name: str) -> float:
        """How many pairs a mean is over."""
        return self._weights.get(name, 0.0)

    def error(self, name: str) -> float:
        """The standard error of the mean: from single pairs where the log has their spread, else from that of its lines."""
        if name == "rewards/margins" and self._variance[1]:
            within = self._variance[0] / self._variance[1]
            return math.sqrt(within / max(1.0, self._variance[1]))
        mean = self.mean(name)
        if mean is None or self.lines < 2:
            return math.inf
        between = max(0.0, self._squares[name] / self._weights[name] - mean**2)
        return math.sqrt(between / (self.lines - 1))

    @property
    def correlation(self) -> tuple[float, float] | None:
        """Fisher's z of the correlation of margin and length, and its standard error."""
        total, weight = self._correlation
        return (total / weight, 1 / math.sqrt(weight)) if weight else None

    @property
    def skew(self) -> tuple[float, float] | None:
        """The skewness of single pairs' margins, and its standard error for normal ones."""
        third, second, weight = self._third
        return (third / weight / (second / weight) ** 1.5, math.sqrt(6 / weight)) if second > 0 else None


class Blocks:
    """The whole blocks of a run so far."""

    def __init__(self, batch: int):
        self._batch = batch
        self._open: Block | None = None
        self._step = 0
        self.whole: list[Block] = []
        self.total: int | None = None
        self.peak = (0.0, 0)  # the largest learning rate, and the first step that has it

    def add(self, event: Mapping[str, Any]) -> bool:
        """Adds a training line; returns whether it completes a block."""
        step = int(event["step"])
        steps = max(1, step - self._step)
        if self._open is None:
            self._open = Block(self._step + 1, step)
        self._step = step
        self._open.add(event, steps * self._batch)
        if isinstance(total := event.get("total_steps"), int):
            self.total = total
        if is_number(rate := event.get("learning_rate")) and rate > self.peak[0]:
            self.peak = (rate, step)
        return self._close()

    def _close(self) -> bool:
        block = self._open
        assert block is not None, "a line was added to it"
        least = max(STEPS, math.ceil((self.total or 0) / _PARTS))
        if block.last - block.first + 1 < least or block.pairs < PAIRS or block.lines < LINES:
            return False
        self.whole.append(block)
        self._open = None
        return True

    @property
    def done(self) -> float:
        """The share of the run's steps that are done; 1 if the log lacks their total."""
        return self._step / self.total if self.total else 1.0

    def last(self, pairs: float) -> Block | None:
        """The newest blocks with at least so many pairs, merged; None if the run has fewer."""
        taken: list[Block] = []
        for block in reversed(self.whole):
            taken.insert(0, block)
            if sum(one.pairs for one in taken) >= pairs:
                return Block.pooled(taken)
        return None

    def second_half(self) -> Block | None:
        """The second half of the run so far, as one block, once it has twice the pairs of a block."""
        half = (self.total or self._step) / 2
        taken = [block for block in self.whole if block.last > half + (block.last - block.first) / 2]
        return Block.pooled(taken) if sum(one.pairs for one in taken) >= 2 * PAIRS else None
