"""Pair: a prompt with its answers as text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One preference as text, before any chat template; ``line`` is where its row begins in the file or worksheet.

    ``rejected`` is None where only the chosen answer is learned (``method: sft``).
    """

    system: str | None
    user: str
    chosen: str
    rejected: str | None
    line: int
