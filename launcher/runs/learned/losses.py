"""Compares the training losses of two runs, step by step. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

_MOST: Final = 17  # significant digits that tell every double from every other one
_CLOSE: Final = 3  # equal digits below which losses are others


@dataclass(frozen=True)
class Losses:
    """The training losses of two runs, compared.

    ``steps``: the steps that both have; ``first``: the first of them whose losses are not the same double, with both ``values``;
    ``digits``: significant digits in which the losses of all these steps agree; ``alone``: how many steps only one of them has.
    """

    steps: int
    first: int | None
    values: tuple[float | str, float | str] | None
    digits: int
    alone: tuple[int, int]

    @property
    def are_equal(self) -> bool:
        """Bit for bit, in every step of both."""
        return self.first is None and self.steps > 0 and self.alone == (0, 0)

    @property
    def sentence(self) -> str:
        if not self.steps:
            return "no step to compare: the runs have no training step in common"
        before, after = self.alone
        rest = f"; {before} only in the first run, {after} only in the second" if before or after else ""
        if self.values is None or self.first is None:
            return f"same losses, bit for bit, in {self.steps} of {self.steps + before + after} steps{rest}"
        one, other = self.values
        where = f"first difference in step {self.first} ({_text(one)} and {_text(other)})"
        if self.digits < _CLOSE:
            return f"other losses: {where}{rest}"
        return f"losses equal to {self.digits} digits in {self.steps} steps, not bit for bit: {where}{rest}"

    def json(self) -> dict[str, Any]:
        return {"equal": self.are_equal, **asdict(self), "sentence": self.sentence}


def compare_losses(before: Iterable[str], after: Iterable[str]) -> Losses:
    """Compares the ``train`` lines of two metrics files (``dpo_train_steps.jsonl``), given as their lines."""
    one, other = _losses(before), _losses(after)
    both = sorted(one.keys() & other.keys())
    first = next((step for step in both if one[step] != other[step]), None)
    digits = min((_digits(one[step], other[step]) for step in both), default=_MOST)
    values = None if first is None else (one[first], other[first])
    return Losses(len(both), first, values, digits, (len(one) - len(both), len(other) - len(both)))


def _losses(lines: Iterable[str]) -> dict[int, float | str]:
    """Step -> loss; a loss that is not finite is its name, as the file has it."""
    found: dict[int, float | str] = {}
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # a line that a killed process left unfinished
            continue
        if isinstance(event, dict) and event.get("type") == "train" and isinstance(event.get("loss"), int | float | str):
            found[int(event["step"])] = event["loss"]
    return found


def _digits(one: float | str, other: float | str) -> int:
    """Significant decimal digits in which two losses agree, at most 17."""
    if one == other:
        return _MOST
    if isinstance(one, str) or isinstance(other, str):
        return 0
    return max(0, min(_MOST - 1, math.floor(-math.log10(abs(one - other) / max(abs(one), abs(other))))))


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.17g}"
