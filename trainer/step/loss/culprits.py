"""Culprits: the rows of the data behind a loss that is not finite."""

from __future__ import annotations

import math

import numpy as np
from accelerate.utils import gather_object
from torch import Tensor

from launcher.data.tables.table import place_of

from ...inputs.tokens.token_pairs import TokenPairs

SHOWN = 10


class Culprits:
    """Keeps the losses of single pairs until the next log line; the plain path has only means over a batch."""

    def __init__(self) -> None:
        self._recent: list[tuple[tuple[int, ...], Tensor]] = []  # places and losses of pairs
        self._found: list[int] = []  # lines of the file
        self._looked = 0  # pairs
        self._source, self._lines = "", np.empty(0, int)

    def name_rows(self, source: str, pairs: TokenPairs) -> None:
        """The places that ``add`` takes are those of ``pairs``, which come from the file ``source``."""
        self._source, self._lines = source, pairs.lines

    def add(self, losses: list[tuple[tuple[int, ...], Tensor]]) -> None:
        """Adds (places, their losses, [k]) of rows."""
        self._recent += losses

    def forget(self) -> None:
        self._recent.clear()

    def find(self, mean: float) -> None:
        """Finds pairs whose loss was not finite since the last call; all ranks must call it with the same ``mean``."""
        recent, self._recent = self._recent, []
        self._found, self._looked = [], 0
        if math.isfinite(mean):
            return
        mine = [p for places, x in recent for p, bad in zip(places, (~x.isfinite()).tolist(), strict=True) if bad]
        self._found = sorted(set(gather_object(self._lines[mine].tolist())))
        looked = [p for places, _ in recent for p in places]
        self._looked = len(set(gather_object(self._lines[looked].tolist())))

    def in_words(self) -> str:
        """`` (rows train.csv:3, train.csv:8)``; empty if none were found, or all: then no single row is to blame."""
        if not self._found:
            return ""
        if len(self._found) == self._looked > 1:
            return f" (in all {self._looked:,} pairs: the cause is the weights, not a row)"
        shown = ", ".join(place_of(self._source, line) for line in self._found[:SHOWN])
        return f" (rows {shown}{' …' if len(self._found) > SHOWN else ''})"
