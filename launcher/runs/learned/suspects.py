"""Suspects: training pairs whose margin is so low that their answers look swapped. Pure.

After training, a mislabelled pair has a low margin, because the other pairs taught the opposite. Of 5 % swapped
labels in configs/demo, 92 % are in the tenth with the lowest margins, and all in the demo's simpler data. This beats
margins recorded during training (AUM; Pleiss et al., arXiv 2001.10528), because those of the first steps tell
nothing.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

FILE: Final = "suspects.jsonl"  # below RunDir.evaluation
FAR: Final = 2.5  # spreads below the median, beyond which a pair counts as a suspect
_SURE: Final = 6.0  # spreads below the median that no chance explains, however few the pairs
_BEYOND: Final = statistics.NormalDist().cdf(-FAR)
_MOST: Final = 1000
TEXT: Final = 500  # characters that are kept of a text


@dataclass(frozen=True)
class Suspect:
    """A training pair that may be mislabelled. ``row``: the line in the file; ``score``: how many spreads its
    margin is below the median.
    """

    row: int
    margin: float
    score: float
    prompt: str
    chosen: str
    rejected: str

    def json(self) -> dict[str, Any]:
        return asdict(self)


def scores(margins: Sequence[float]) -> list[float]:
    """Of each margin how far it is below the median, in spreads: the root mean square distance of the pairs above the median
    from it, because wrong labels are below.
    """
    middle = statistics.median(margins)
    above = [margin - middle for margin in margins if margin > middle]
    spread = math.sqrt(statistics.fmean([distance**2 for distance in above])) if above else 0.0
    return [(middle - margin) / spread if spread else 0.0 for margin in margins]


def ranked(margins: Sequence[float]) -> list[int]:
    """Indices of the tenth with the lowest margins, at least 20 and at most 1,000, lowest first."""
    order = sorted(range(len(margins)), key=lambda place: (margins[place], place))
    return order[: min(_MOST, max(20, math.ceil(len(order) / 10)))]


def count(margins: Sequence[float], noise: float) -> int:
    """How many margins are below zero and further than ``FAR`` spreads below the median; where chance gives as many, those that
    are further than ``_SURE``.

    Of normally distributed margins 0.6 % are so low; three standard deviations more are no chance.
    """
    low = [score for margin, score in zip(margins, scores(margins), strict=True) if margin < -noise and score > FAR]
    expected = _BEYOND * len(margins)
    is_chance = len(low) <= expected + 3 * math.sqrt(max(expected, 1.0))
    return sum(score > _SURE for score in low) if is_chance else len(low)


def parsed(text: str) -> list[Suspect]:
    """The reverse of ``json_lines.written``. Raises ValueError or TypeError for other text."""
    return [Suspect(**json.loads(line)) for line in text.splitlines()]


def cut(text: str, *, keeps_end: bool = False) -> str:
    """``text`` cut to ``TEXT`` characters; ``keeps_end``: keep the end, for conversations, whose last messages matter most."""
    if len(text) <= TEXT:
        return text
    return "…" + text[1 - TEXT :] if keeps_end else text[: TEXT - 1] + "…"
