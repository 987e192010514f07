"""GPU-hours of runs, summed by user or experiment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from .known import Known, time_spent


@dataclass(frozen=True)
class Usage:
    """The runs of one user or experiment. ``unknown``: how many lack known GPU-hours, which count as 0.

    ``active``: how many have not ended. ``seconds``: their training time.
    """

    name: str
    runs: int
    active: int
    gpu_hours: float
    unknown: int
    seconds: float

    def json(self) -> dict[str, Any]:
        return asdict(self)


def usage(runs: Iterable[Known], key: str) -> list[Usage]:
    """One sum for each user or experiment (``key``), the largest first."""
    groups: dict[str, list[Known]] = {}
    for run in runs:
        groups.setdefault(getattr(run, key) or "-", []).append(run)
    return sorted((_sum(name, those) for name, those in groups.items()), key=lambda one: (-one.gpu_hours, -one.seconds, one.name))


def total(rows: Iterable[Usage]) -> Usage:
    """The sum of sums."""
    rows = list(rows)
    return Usage(
        "total",
        sum(row.runs for row in rows),
        sum(row.active for row in rows),
        sum(row.gpu_hours for row in rows),
        sum(row.unknown for row in rows),
        sum(row.seconds for row in rows),
    )


def _sum(name: str, runs: list[Known]) -> Usage:
    return Usage(
        name,
        len(runs),
        sum(not run.is_over for run in runs),
        sum(run.gpu_hours or 0.0 for run in runs),
        sum(run.gpu_hours is None for run in runs),
        sum(run.trained_seconds or 0.0 for run in runs),
    )


def gpus_of(record: Mapping[str, Any]) -> int | None:
    """The GPUs of all nodes of a run, 0 on the CPU; None if its record does not say."""
    said, hardware = record.get("gpus"), record.get("hardware") or {}
    if isinstance(said, int):
        return said
    if "gpus" not in hardware:
        return None
    return int(hardware.get("ranks") or 1) if hardware["gpus"] else 0


def gpu_hours(gpus: int | None, seconds: float | None) -> float | None:
    """``gpus`` times ``seconds``, in hours; None if one of them is unknown, unless there is no GPU."""
    if gpus == 0:
        return 0.0
    return None if gpus is None or seconds is None else gpus * seconds / 3600


def trained(record: Mapping[str, Any], until: datetime | None) -> float | None:
    """The seconds of all attempts by a run's record; ``until``: when an attempt without an end ended, None to leave it out."""
    seconds: float | None = time_spent(record.get("attempts") or [], until)["trained_seconds"]
    return seconds
