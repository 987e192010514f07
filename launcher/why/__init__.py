"""Why a run is as it is: one sentence, and one suggestion, from what was seen of it. Pure, and the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass

from .evidence import Condition, Container, Event, Evidence, Pod


@dataclass(frozen=True)
class Explanation:
    """``cause`` is a word that programs may read; ``sentence`` says what is the matter, ``suggestion`` what to do."""

    cause: str
    sentence: str
    suggestion: str


def explain(seen: Evidence) -> Explanation:
    """The one cause that explains the most of what was seen."""
    raise NotImplementedError(seen.run)


__all__ = ["Condition", "Container", "Event", "Evidence", "Explanation", "Pod", "explain"]
