"""Rewards of both answers of each pair under a run's weights, and metrics of groups of pairs. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ...errors import UsageError, nearest
from .intervals import Estimate, mean, share

FILE: Final = "pairs.jsonl"  # below RunDir.evaluation
LENGTH: Final = "length"  # groups by the tokens of the longer answer
_BUCKETS: Final = 4


@dataclass(frozen=True)
class PairReward:
    """``chosen`` and ``rejected``: beta × (log-probability − the reference's), in nats times beta. ``row``: the line in the file.

    ``columns``: the short text columns of the row that are not mapped.
    """

    row: int
    prompt_tokens: int
    chosen_tokens: int
    rejected_tokens: int
    chosen: float
    rejected: float
    columns: Mapping[str, str]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> PairReward:
        """The reverse of ``json``; raises KeyError."""
        return cls(**{name: found[name] for name in cls.__dataclass_fields__})

    @property
    def margin(self) -> float:
        return self.chosen - self.rejected

    @property
    def length(self) -> int:
        """Tokens of the longer answer."""
        return max(self.chosen_tokens, self.rejected_tokens)

    def json(self) -> dict[str, Any]:
        fields = asdict(self)
        columns = fields.pop("columns")
        return {**fields, "margin": self.margin, "columns": columns}


def parsed(text: str) -> list[PairReward]:
    """The reverse of ``json_lines.written``. Raises ValueError or KeyError for other text."""
    return [PairReward.of(json.loads(line)) for line in text.splitlines()]


@dataclass(frozen=True)
class Group:
    """Metrics of the group of pairs ``name``."""

    name: str
    pairs: int
    accuracy: Estimate
    margin: Estimate
    chosen: Estimate
    rejected: Estimate

    @classmethod
    def of(cls, name: str, pairs: Sequence[PairReward], noise: float) -> Group:
        """``noise``: a margin up to it is rounding and no preference, as in the log's accuracy."""
        return cls(
            name,
            len(pairs),
            share(sum(pair.margin > noise for pair in pairs), len(pairs)),
            mean([pair.margin for pair in pairs]),
            mean([pair.chosen for pair in pairs]),
            mean([pair.rejected for pair in pairs]),
        )

    def json(self) -> dict[str, Any]:
        """Only the metrics."""
        parts = {"accuracy": self.accuracy, "margin": self.margin, "chosen": self.chosen, "rejected": self.rejected}
        return {name: part.json() for name, part in parts.items()}


@dataclass(frozen=True)
class LengthGroup:
    """Pairs whose longer answer has ``begin`` to ``end`` tokens."""

    begin: int
    end: int
    group: Group

    def json(self) -> dict[str, Any]:
        return {"from": self.begin, "to": self.end, "pairs": self.group.pairs, **self.group.json()}


def by_length(pairs: Sequence[PairReward], noise: float) -> list[LengthGroup]:
    """At most four groups of about as many pairs, the shortest answers first; one length is never in two of them."""
    ordered = sorted(pairs, key=lambda pair: pair.length)
    groups: list[list[PairReward]] = []
    begun = -1  # the bucket that the last group began in
    for number, pair in enumerate(ordered):
        bucket = number * _BUCKETS // len(ordered)
        if groups and (bucket == begun or pair.length == groups[-1][-1].length):
            groups[-1].append(pair)
        else:
            groups.append([pair])
            begun = bucket
    return [
        LengthGroup(some[0].length, some[-1].length, Group.of(_tokens(some[0].length, some[-1].length), some, noise))
        for some in groups
    ]


def _tokens(begin: int, end: int) -> str:
    return f"{begin}-{end} tokens" if begin < end else f"{begin} token{'' if begin == 1 else 's'}"


def by_column(pairs: Sequence[PairReward], column: str, noise: float) -> list[Group]:
    """A group for each value of ``column``, the lowest margin first."""
    values: dict[str, list[PairReward]] = defaultdict(list)
    for pair in pairs:
        values[pair.columns[column]].append(pair)
    return sorted((Group.of(value, some, noise) for value, some in values.items()), key=lambda group: group.margin.value)


def grouped(pairs: Sequence[PairReward], by: str, noise: float, whose: str) -> list[Group]:
    """Groups by a column, or by ``LENGTH``; raises UsageError if the pairs, which are ``whose``, have no such column."""
    columns = list(pairs[0].columns) if pairs else []
    if by in columns:
        return by_column(pairs, by, noise)
    if by == LENGTH:
        return [one.group for one in by_length(pairs, noise)] if pairs else []
    if not pairs:
        raise UsageError(f"--by {by}: {whose} evaluated no validation pairs")
    hint = nearest(by, columns)
    raise UsageError(
        f"--by {by}: the pairs of {whose} have no such column; must be one of {', '.join([LENGTH, *columns])}"
        + (f"\n    hint:     {hint}" if hint else "")
    )
