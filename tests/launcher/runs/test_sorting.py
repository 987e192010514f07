"""The order of runs in `launcher ps --sort`."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.runs.known import Known
from launcher.runs.sorting import ordered


def known(run: str, **fields: Any) -> Known:
    times = {"created": "2026-11-28T10:00:00+00:00", "ended": None}
    base = {"experiment": "demo", "state": "done", "exit_code": 0, "sentence": None, "step": 1, "total_steps": 1, "loss": None}
    return Known(run, **{**base, **times, "folder": "", "figures": "validation", **fields})


def names(runs: list[Known]) -> str:
    return " ".join(run.run for run in runs)


RUNS = [
    known("new", created="2026-11-28T12:00:00+00:00"),
    known("trained", accuracy=0.99, margin=3.0, figures="training", loss=0.3),
    known("good", accuracy=0.9, margin=1.0, loss=0.2, trained_seconds=5.0),
    known("best", accuracy=0.95, margin=0.5, loss=0.4, created="2026-11-28T09:00:00+00:00", trained_seconds=9.0),
]


def test_the_best_run_comes_first_and_runs_without_the_figure_last() -> None:
    assert names(ordered(RUNS, "accuracy")) == "best good trained new"
    assert names(ordered(RUNS, "margin")) == "good best trained new"
    assert names(ordered(RUNS, "loss")) == "good trained best new"
    assert names(ordered(RUNS, "started")) == "new trained good best"
    assert names(ordered(RUNS, "took")) == "best good new trained"


def test_a_minus_reverses_what_is_known_alone() -> None:
    assert names(ordered(RUNS, "-accuracy")) == "good best trained new"
    assert names(ordered(RUNS, "-Started")) == "best trained good new"


def test_a_key_that_is_unknown_or_not_in_a_clusters_list_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"^--sort acuracy: must be one of accuracy, margin, .*; did you mean 'accuracy'\?$"):
        ordered(RUNS, "acuracy")
    with pytest.raises(UsageError, match=r"^--sort margin: with --cluster must be one of started, run, state$"):
        ordered(RUNS, "margin", on_cluster=True)
    assert names(ordered(RUNS, "run", on_cluster=True)) == "best good new trained"
