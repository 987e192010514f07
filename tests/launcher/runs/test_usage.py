"""GPU-hours by user and by experiment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from launcher.runs.known import Known
from launcher.runs.usage import Usage, gpu_hours, gpus_of, total, trained, usage


def known(run: str, user: str | None, experiment: str, hours: float | None, **fields: Any) -> Known:
    base = {"state": "done", "exit_code": 0, "sentence": None, "step": 1, "total_steps": 1, "loss": None}
    times = {"created": "2026-11-28T10:00:00+00:00", "ended": None, "folder": ""}
    return Known(run, experiment, **{**base, **times, **fields}, user=user, gpu_hours=hours)


RUNS = [
    known("a", "dana", "one", 8.0, trained_seconds=3600.0),
    known("b", "dana", "two", None),
    known("c", "eve", "one", 12.5, state="running", exit_code=None, trained_seconds=60.0),
    known("d", None, "two", 0.0),
]


def test_runs_are_summed_by_user_and_by_experiment_with_the_largest_sum_first() -> None:
    eve, dana = Usage("eve", 1, 1, 12.5, 0, 60.0), Usage("dana", 2, 0, 8.0, 1, 3600.0)
    assert usage(RUNS, "user") == [eve, dana, Usage("-", 1, 0, 0.0, 0, 0.0)]
    assert [(one.name, one.runs, one.gpu_hours) for one in usage(RUNS, "experiment")] == [("one", 2, 20.5), ("two", 2, 0.0)]
    assert total(usage(RUNS, "user")) == Usage("total", 4, 1, 20.5, 1, 3660.0)


def test_gpus_are_those_that_a_run_was_given_or_of_an_old_record_those_of_its_ranks() -> None:
    assert gpus_of({"gpus": 16, "hardware": {"gpus": ["A"], "ranks": 8}}) == 16
    assert gpus_of({"hardware": {"gpus": ["A", "A"], "ranks": 4}}) == 4
    assert gpus_of({"hardware": {"gpus": [], "ranks": 2}}) == 0
    assert gpus_of({}) is None


def test_gpu_hours_are_of_all_attempts() -> None:
    attempts = [
        {"started": "2026-11-28T10:00:00+00:00", "ended": "2026-11-28T10:30:00+00:00"},
        {"started": "2026-11-28T12:00:00+00:00", "ended": None},
    ]
    seconds = trained({"attempts": attempts}, datetime(2026, 11, 28, 12, 15, tzinfo=UTC))
    assert seconds == 45 * 60
    assert trained({"attempts": attempts}, None) == 30 * 60  # nobody knows when the last one ended
    assert gpu_hours(8, seconds) == 6.0
    assert (gpu_hours(0, None), gpu_hours(8, None), gpu_hours(None, 5.0)) == (0.0, None, None)
