"""The time that a run took."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from launcher.runs.known import Known, time_spent


def attempt(started: str, ended: str | None) -> dict[str, Any]:
    day = "2026-11-24T"
    return {"started": f"{day}{started}+00:00", "ended": None if ended is None else f"{day}{ended}+00:00"}


def known(attempts: list[dict[str, Any]], until: datetime | None = None) -> Known:
    run = Known("x", "demo", "done", 0, None, 3, 3, 0.5, "2026-11-24T10:00:00+00:00", "2026-11-24T13:00:00+00:00", "/x")
    return replace(run, **time_spent(attempts, until))


def test_took_is_the_time_that_the_attempts_trained_and_pauses_are_told_apart():
    assert known([attempt("10:00:10", "10:02:10"), attempt("12:02:10", "12:03:20")]).took == "3 min 10 s, paused 2 h 0 min"


def test_attempts_that_follow_at_once_have_no_pause():
    assert known([attempt("10:00:00", "10:01:00"), attempt("10:01:01", "10:02:00")]).took == "1 min 59 s"


def test_an_attempt_that_runs_counts_until_now():
    now = datetime(2026, 11, 24, 10, 5, tzinfo=UTC)
    assert known([attempt("10:00:00", "10:01:00"), attempt("10:04:00", None)], now).took == "2 min 0 s, paused 3 min 0 s"


def test_without_attempts_a_run_took_from_its_start_to_its_end():
    assert known([]).took == "3 h 0 min"
    assert replace(known([]), ended=None).took == "-"
