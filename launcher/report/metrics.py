"""The log lines of one type as columns of numbers, which takes a twentieth of their memory."""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

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

    def extend(self, lines: Sequence[dict[str, Any]]) -> None:
        """Adds ``lines`` of this type in order. Each has a step. Neighbours with the same names become columns together."""
        for names, some in groupby(lines, key=tuple):
            alike = list(some)
            found = dict(zip(names, zip(*map(dict.values, alike), strict=True), strict=True))
            for name, values in found.items():
                types = set(map(type, values))
                if float in types or (int in types and name not in _NOT_FIGURES):
                    is_clean = types == {float} and math.isfinite(sum(values))
                    self._append(name, values if is_clean else map(_finite, values))
            self.steps.extend(found["step"])
            self.total = found.get("total_steps", [self.total])[-1]

    def _append(self, name: str, values: Iterable[float]) -> None:
        column = self.columns.setdefault(name, array("d"))
        column.extend(_nans(len(self) - len(column)))
        column.extend(values)

    def column(self, name: str) -> array[float]:
        """A figure of every line, NaN where a line lacks it."""
        found = self.columns.get(name, array("d"))
        return found if len(found) == len(self) else found + _nans(len(self) - len(found))

    def last(self, name: str) -> float | None:
        """A figure of the last line, None if it has none."""
        value = self.column(name)[-1] if len(self) else NAN
        return None if math.isnan(value) else value

    @property
    def newest(self) -> Metric | None:
        if not len(self):
            return None
        return Metric(self.kind, self.steps[-1], self.total, {name: self.last(name) for name in self.columns})


def read_metrics(steps: Path) -> tuple[Metrics, Metrics]:
    """The training lines and the evaluations of ``dpo_train_steps.jsonl``, both empty if it does not exist."""
    train, evals = Metrics("train"), Metrics("eval")
    for chunk in _chunks(steps, None):
        for found in (train, evals):
            found.extend([line for line in chunk if line.get("type") == found.kind and type(line.get("step")) is int])
    return train, evals


def jsonl(file: Path, most: int | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, none if it does not exist; a line that was cut off while it was written is left out."""
    return chain.from_iterable(_chunks(file, most))


def _chunks(file: Path, most: int | None) -> Iterator[list[dict[str, Any]]]:
    if not file.is_file():
        return
    with file.open("rb") as text:
        lines = islice(text, most)
        while chunk := list(islice(lines, _CHUNK)):
            yield [found for found in _parsed(chunk) if isinstance(found, dict)]


def _parsed(lines: list[bytes]) -> list[Any]:
    """The values of many lines, parsed together; line by line if one of them is broken."""
    try:
        return list(from_json(b"[" + b",".join(lines) + b"]"))
    except ValueError:
        return [found for line in lines if (found := _whole(line)) is not None]


def _whole(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return None


def _finite(value: Any) -> float:
    """``value``, or NaN if it is not a number or is too large for a float."""
    is_number = type(value) is float or (type(value) is int and abs(value) < sys.float_info.max)
    return value if is_number and math.isfinite(value) else NAN


def _nans(count: int) -> array[float]:
    return array("d", [NAN]) * count
