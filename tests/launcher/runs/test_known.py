"""The time that a run took."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from launcher.errors import Warned
from launcher.runs.known import Known, copied, time_spent


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


def test_a_run_with_copies_tells_how_old_the_newest_is_and_a_failure_is_a_warning() -> None:
    now = Known("r", "e", "running", None, None, 50, 100, 0.5, "", None, "out")
    assert copied(now) is None
    mirror = {"to": "s3://b/r", "step": 40, "failed": None}
    assert copied(replace(now, copies=mirror)) == "checkpoint-40 in s3://b/r, 10 steps old"
    assert copied(replace(now, copies={**mirror, "step": 50})) == "checkpoint-50 in s3://b/r"
    late = copied(replace(now, copies={"to": "s3://b/r", "step": None, "failed": "cannot connect"}))
    assert isinstance(late, Warned)
    assert late == "no checkpoint in s3://b/r yet: cannot connect"
