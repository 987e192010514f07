"""Greedy answers of the base and the trained model, side by side. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

FILE: Final = "samples.jsonl"  # below RunDir.evaluation


@dataclass(frozen=True)
class Sample:
    """Both answers to one prompt after ``step`` steps. ``row``: the line in the file, None for a prompt of the experiment.

    ``…_tokens``: of the answer with its end; ``…_is_cut``: it did not end within the most tokens. None for an older run's.
    """

    step: int
    row: int | None
    prompt: str
    base: str
    adapter: str
    base_tokens: int | None = None
    base_is_cut: bool | None = None
    adapter_tokens: int | None = None
    adapter_is_cut: bool | None = None

    def json(self) -> dict[str, Any]:
        """Without what an older run does not know."""
        return {name: value for name, value in asdict(self).items() if value is not None or name == "row"}


def parsed(text: str) -> list[Sample]:
    """The reverse of ``json_lines.written``. Raises ValueError or TypeError for other text. Unknown fields are left out."""
    known = Sample.__dataclass_fields__
    return [Sample(**{name: value for name, value in json.loads(line).items() if name in known}) for line in text.splitlines()]


def last(samples: Iterable[Sample]) -> list[Sample]:
    """The samples of the last step, which are from the saved weights."""
    every = list(samples)
    return [one for one in every if one.step == every[-1].step]
