"""One run as a report needs it: its record, its metrics, and the files of its evaluation."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any, Final, TypeVar

from ..runs.known import pairs_a_step, time_spent
from ..runs.learned import pair_rewards, samples, suspects
from ..runs.learned.pair_rewards import PairReward
from ..runs.learned.samples import Sample
from ..runs.learned.suspects import Suspect
from ..runs.run_dir import RunDir
from ..runs.status import Status, is_over
from ..runs.usage import gpu_hours, gpus_of
from .metrics import NAN, Metrics, jsonl, read_metrics

Lines = list[dict[str, Any]]
T = TypeVar("T")

_TEXTS: Final = 5000  # pairs whose lengths are counted


@dataclass(frozen=True)
class Reported:
    """One run. ``train`` and ``evals``: the lines of its metrics by their ``type``.

    ``samples``, ``suspects``, ``pairs``: lines of ``evaluation/``; None if the run has no such file, or another version's.
    ``notices``: about its data when they were read; ``survey``: of its data (``data.survey``), as JSON.
    """

    run: RunDir
    record: Mapping[str, Any]
    status: Status
    created: str
    train: Metrics = field(repr=False)
    evals: Metrics = field(repr=False)
    samples: tuple[Sample, ...] | None = field(default=None, repr=False)
    suspects: tuple[Suspect, ...] | None = field(default=None, repr=False)
    pairs: tuple[PairReward, ...] | None = field(default=None, repr=False)
    notices: tuple[str, ...] = ()
    survey: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, run: RunDir, status: Status | None = None) -> Reported:
        """Reads the folder of ``run``; ``status``: its state by its backend, by default what its record says."""
        record = run.read_record()
        outcome = record.get("outcome") or {}
        if status is None:
            status = Status(str(outcome.get("state", "unknown")), outcome.get("exit_code"), outcome.get("sentence"))
        train, evals = read_metrics(run.steps)
        report = _report(run.data / "report.json")
        return cls(
            run,
            record,
            status,
            str(record.get("created") or ""),
            train,
            evals,
            samples=_parsed(run.evaluation / samples.FILE, samples.parsed),
            suspects=_parsed(run.evaluation / suspects.FILE, suspects.parsed),
            pairs=_parsed(run.evaluation / pair_rewards.FILE, pair_rewards.parsed),
            notices=tuple(map(str, report.get("notices") or [])),
            survey=report.get("survey"),
        )

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def experiment(self) -> Mapping[str, Any]:
        return self.record.get("experiment") or {}

    @property
    def result(self) -> Mapping[str, Any]:
        return self.record.get("result") or {}

    @property
    def learned(self) -> Mapping[str, Any]:
        """Figures on validation pairs with their intervals; empty for a run that has none."""
        return self.result.get("learned") or {}

    @property
    def health(self) -> Lines | None:
        """Findings; None for a run that is older than the health rules."""
        found = self.record.get("health")
        return found if isinstance(found, list) else None

    @property
    def sources(self) -> dict[str, Mapping[str, Any]]:
        """The files or worksheets of the data by their role: train, validation, prompts."""
        return {str(source.get("role")): source for source in self.record.get("data") or []}

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return max((lines.steps[-1] for lines in (self.train, self.evals) if len(lines)), default=0)

    @property
    def total_steps(self) -> int | None:
        return self.train.total or self.evals.total

    @cached_property
    def rates(self) -> array[float]:
        """Pairs per second of each training line, NaN if the time since the line before includes more than its steps."""
        batch, evaluated = pairs_a_step(self.record), set(self.evals.steps)
        steps, seconds = self.train.steps, self.train.column("seconds")
        found = array("d", [NAN]) * len(self.train)
        for now in range(1, len(self.train)):
            took, did = seconds[now] - seconds[now - 1], steps[now] - steps[now - 1]
            if batch and took > 0 and did > 0 and steps[now - 1] not in evaluated:  # another attempt has a clock of its own
                found[now] = did * batch / took
        return found

    @property
    def pairs_per_second(self) -> float | None:
        """Over the whole training, else the median of its lines."""
        said = self.result.get("pairs_per_second")
        if isinstance(said, int | float):
            return float(said)
        known = sorted(rate for rate in self.rates if not isnan(rate))
        return known[len(known) // 2] if known else None

    @property
    def train_loss(self) -> float | None:
        """The mean over all steps; of a run that is not done over its logged lines."""
        said = self.result.get("train_loss")
        if isinstance(said, int | float):
            return float(said)
        losses = [loss for loss in self.train.column("loss") if not isnan(loss)]
        return sum(losses) / len(losses) if losses else None

    @property
    def seconds(self) -> float | None:
        """The time that its attempts trained."""
        until = self.run.last_written() if is_over(self.status.state) else datetime.now(UTC)
        spent = time_spent(self.record.get("attempts") or [], until)
        return spent["trained_seconds"]  # type: ignore[no-any-return]

    @property
    def gpu_hours(self) -> float | None:
        """GPUs times hours of all attempts; 0 for a run without GPUs, None if its record does not say."""
        return gpu_hours(gpus_of(self.record), self.seconds)


def lengths(file: Path) -> dict[str, Any] | None:
    """Characters of the answers in ``data/train.jsonl``: medians, and how often the chosen one is longer; None without pairs of
    two answers.
    """
    pairs = [pair for pair in jsonl(file, most=_TEXTS) if None not in (pair.get("chosen"), pair.get("rejected"))]
    if not pairs:
        return None
    chosen, rejected = ([len(str(pair[name])) for pair in pairs] for name in ("chosen", "rejected"))
    return {
        "pairs": len(pairs),
        "chosen": sorted(chosen)[len(pairs) // 2],
        "rejected": sorted(rejected)[len(pairs) // 2],
        "chosen_longer": sum(a > b for a, b in zip(chosen, rejected, strict=True)) / len(pairs),
    }


def _parsed(file: Path, parse: Callable[[str], list[T]]) -> tuple[T, ...] | None:
    try:
        return tuple(parse(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _report(file: Path) -> Mapping[str, Any]:
    """What was found when the data were read; empty if it was not."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
