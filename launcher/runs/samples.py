"""Samples: greedy answers of the base model and of what was trained, side by side. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

FILE: Final = "samples.jsonl"  # below RunDir.evaluation


@dataclass(frozen=True)
class Sample:
    """Both answers to one prompt after ``step`` steps. ``row``: the line in the file, None for a prompt of the experiment."""

    step: int
    row: int | None
    prompt: str
    base: str
    adapter: str

    def json(self) -> dict[str, Any]:
        return asdict(self)


def written(samples: Iterable[Sample]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(one.json(), ensure_ascii=False) + "\n" for one in samples)


def parsed(text: str) -> list[Sample]:
    """The reverse of ``written``; raises ValueError or TypeError for other text."""
    return [Sample(**json.loads(line)) for line in text.splitlines()]


def last(samples: Iterable[Sample]) -> list[Sample]:
    """Those of the last step, which are of the saved weights."""
    every = list(samples)
    return [one for one in every if one.step == every[-1].step]
