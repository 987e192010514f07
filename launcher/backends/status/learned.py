"""What a run has learned, by its record and the files of its evaluation, on any backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import LauncherError, UsageError
from ...experiment.other_tools.method import SFT
from ...health import Finding, read_findings
from ...runs.learned.pair_rewards import FILE as PAIRS
from ...runs.learned.pair_rewards import LENGTH, Group, grouped
from ...runs.learned.pair_rewards import parsed as pairs_of
from ...runs.learned.samples import FILE as SAMPLES
from ...runs.learned.samples import Sample, last
from ...runs.learned.samples import parsed as samples_of
from ...runs.learned.summary import Learned, without
from ...runs.learned.suspects import FILE as SUSPECTS
from ...runs.learned.suspects import Suspect
from ...runs.learned.suspects import parsed as suspects_of
from .. import Run, Runs


@dataclass(frozen=True)
class Evaluated:
    """``groups``: figures of the validation pairs by the column ``by``; ``suspects``: the likeliest first, none by chance.
    ``findings``: of the health rules, by the run's record.
    """

    run: str
    learned: Learned
    by: str
    groups: tuple[Group, ...]
    suspects: tuple[Suspect, ...]
    samples: tuple[Sample, ...]
    findings: tuple[Finding, ...]

    def json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "learned": self.learned.evaluated,
            "by": self.by,
            "groups": [{"value": group.name, "pairs": group.pairs, **group.json()} for group in self.groups],
            "suspects": [one.json() for one in self.suspects],
            "samples": [one.json() for one in self.samples],
            "health": [one.json() for one in self.findings],
        }


def evaluated(where: Runs[Run], run: Run, column: str | None) -> Evaluated:
    """What ``run`` has learned, its validation pairs grouped by ``column`` (None: by length).

    Raises UsageError where the run is not done or has no such column, LauncherError where its files cannot be read.
    """
    record, place = where.record(run), where.place(run)
    result = record.get("result") or {}
    if not result:
        raise UsageError(without(run.name, record, "result"))
    if column is not None and record.get("method") == SFT:
        raise UsageError(f"--by {column}: {run.name} is a run of method: sft and has no rewards to group")
    learned = Learned.of(record, place, place, ())
    found = learned.evaluated or {}
    pairs = _read(where, run, PAIRS, pairs_of) if found.get("pairs") else []
    suspects = _read(where, run, SUSPECTS, suspects_of)[: found["suspects"]] if found.get("suspects") else []
    by = LENGTH if column is None else column
    groups = tuple(grouped(pairs, by, found.get("noise", 0.0), run.name))
    findings = tuple(read_findings(record) or ())
    return Evaluated(run.name, learned, by, groups, tuple(suspects), answers(where, run, record), findings)


def answers(where: Runs[Run], run: Run, record: Mapping[str, Any]) -> tuple[Sample, ...]:
    """The sample answers of the saved weights; none where the run wrote none. Raises LauncherError for a file that is no such."""
    found = (record.get("result") or {}).get("learned") or {}
    return tuple(last(_read(where, run, SAMPLES, samples_of))) if found.get("samples") else ()


def _read(where: Runs[Run], run: Run, name: str, parse: Any) -> list[Any]:
    text = where.file(run, f"evaluation/{name}")
    if text is None:
        raise LauncherError(f"{where.place(run)}/evaluation/{name} not found")
    try:
        return list(parse(text))
    except (ValueError, KeyError, TypeError) as error:
        raise LauncherError(f"{where.place(run)}/evaluation/{name}: expected lines that a run writes, found {error}") from error
