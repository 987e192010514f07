"""Pair: one preference as text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One preference as text, before any chat template; ``line`` is where its row begins in the file or worksheet."""

    system: str | None
    user: str
    chosen: str
    rejected: str
    line: int
