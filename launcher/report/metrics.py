"""Metrics: the lines of one type of a run's log as columns of numbers, which takes a twentieth of the memory of the lines."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ..runs.follow import Metric

NAN: Final = math.nan
_CHUNK: Final = 500  # lines that are parsed together
_NOT_FIGURES: Final = ("type", "step", "total_steps")


@dataclass
class Metrics:
    """``columns``: the figures by their names in the log, one of each line; NaN where a line has no finite number of that name.

    ``total``: the steps that were planned.
    """

    kind: str
    steps: array[int] = field(default_factory=lambda: array("q"))
    columns: dict[str, array[float]] = field(default_factory=dict)
    total: int | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if type(value) is float or (type(value) is int and name not in _NOT_FIGURES):
                column = self.columns.get(name)
                if column is None:
                    column = self.columns[name] = array("d", [NAN]) * len(self.steps)
                elif len(column) < len(self.steps):
                    column.extend(array("d", [NAN]) * (len(self.steps) - len(column)))
                column.append(value if value - value == 0 else NAN)
        self.steps.append(line["step"])
        self.total = line.get("total_steps", self.total)

    def column(self, name: str) -> array[float]:
        """A figure of every line, NaN where a line lacks it."""
        found = self.columns.get(name, array("d"))
        return found if len(found) == len(self) else found + array("d", [NAN]) * (len(self) - len(found))

    def last(self, name: str) -> float | None:
        """A figure of the last line, None where it has none."""
        value = self.column(name)[-1] if len(self) else NAN
        return None if math.isnan(value) else value

    @property
    def newest(self) -> Metric | None:
        if not len(self):
            return None
        return Metric(self.kind, self.steps[-1], self.total, {name: self.last(name) for name in self.columns})


def read_metrics(steps: Path) -> tuple[Metrics, Metrics]:
    """The training lines and the evaluations of ``dpo_train_steps.jsonl``, both empty where it does not exist."""
    train, evals = Metrics("train"), Metrics("eval")
    kinds = {"train": train, "eval": evals}
    for line in jsonl(steps):
        found = kinds.get(line.get("type", ""))
        if found is not None and type(line.get("step")) is int:
            found.add(line)
    return train, evals


def jsonl(file: Path, most: int | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, none where it does not exist; a line that was cut off while it was written is left out."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as text:
        lines = islice(text, most)
        while chunk := list(islice(lines, _CHUNK)):
            yield from (found for found in _parsed(chunk) if isinstance(found, dict))


def _parsed(lines: list[str]) -> list[Any]:
    """Many lines at once, which takes three quarters of the time; one by one where one of them is broken."""
    try:
        return list(json.loads(f"[{','.join(lines)}]"))
    except ValueError:
        return [found for line in lines if (found := _whole(line)) is not None]


def _whole(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
