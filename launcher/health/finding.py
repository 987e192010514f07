"""Finding: one rule that holds for a run, in which steps, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """``action``: warn or stop. ``first_step`` and ``last_step``: those whose lines show it; 0 and 0 where the data show it."""

    rule: str
    action: str
    first_step: int
    last_step: int
    sentence: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.sentence}: {self.suggestion} (health.{self.rule})"

    @property
    def steps(self) -> str:
        if self.first_step == self.last_step:
            return "data" if self.last_step == 0 else f"step {self.last_step}"
        return f"steps {self.first_step}-{self.last_step}"

    def json(self) -> dict[str, Any]:
        return asdict(self)


def read_findings(record: Mapping[str, Any]) -> list[Finding] | None:
    """The findings in a run's record; None if it is older than the rules, or cannot be read."""
    saved = record.get("health")
    if not isinstance(saved, list):
        return None
    names = Finding.__dataclass_fields__
    return [
        Finding(**{name: one[name] for name in names}) for one in saved if isinstance(one, dict) and names.keys() <= one.keys()
    ]


def worst(found: Sequence[Finding] | None) -> str:
    """One cell of a table: the rule that stopped the run, else the newest one, and how many others hold; ``-``: nobody looked."""
    if not found:
        return "-" if found is None else "ok"
    first = next((one for one in found if one.action == "stop"), found[-1])
    return first.rule + (f" +{len(found) - 1}" if len(found) > 1 else "")
