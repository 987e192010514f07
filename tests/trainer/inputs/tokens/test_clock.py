from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.inputs.tokens import clock
from trainer.inputs.tokens.clock import Clock, day_of_run

New = Callable[[Path, Experiment, str], RunDir]


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("%d %b %Y", "04 Jul 2026"),
        ("%B %-d, %Y", "July 4, 2026"),
        ("%A, %e. %^a %#p", "Saturday,  4. SAT am"),
        ("%H:%M:%S %p %Z %z", "00:00:00 AM UTC +0000"),
        ("%c|%x|%X|%r|%h|%P", "Sat Jul  4 00:00:00 2026|07/04/26|00:00:00|12:00:00 AM|Jul|am"),
        ("%Ey %Od %% %j %s", "26 04 % 185 1783123200"),
    ],
)
@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Etc/GMT-14"])
def test_the_clock_of_a_template_stands_still_and_knows_no_zone(
    form: str, written: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert Clock(date(2026, 7, 4)).strftime_now(form) == written
    finally:
        os.environ.pop("TZ")
        time.tzset()


def test_every_code_is_what_c_writes_in_its_own_locale() -> None:
    at = datetime(2026, 7, 4, tzinfo=UTC)
    codes = "aAbBcdDeFgGhHIjkmMnpPrRStTuUVwWxXyY"
    assert [Clock(at.date()).strftime_now(f"%{one}") for one in codes] == [at.strftime(f"%{one}") for one in codes]


def test_a_run_keeps_the_day_of_its_first_start(
    tmp_path: Path, make_experiment: Callable[..., Experiment], new_run: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path, make_experiment(), "one")
    monkeypatch.setattr(clock, "today", lambda: date(2026, 7, 4))
    assert day_of_run(run, None, None, first=True) == date(2026, 7, 4)
    assert run.read_record()["template_date"] == "2026-07-04"
    monkeypatch.setattr(clock, "today", lambda: date(2026, 7, 5))
    assert day_of_run(run, None, None, first=True) == date(2026, 7, 4), "a restart on the next day"
    assert day_of_run(run, "2024-07-26", None, first=True) == date(2024, 7, 26), "template_date decides"
    run.update_record(template_date=None, attempts=[{"number": 1, "started": "2026-07-03T23:30:00-02:00"}])
    assert day_of_run(run, None, None, first=True) == date(2026, 7, 4), "its first attempt ended before it had made tokens"
    other = new_run(tmp_path, make_experiment(), "other")
    assert day_of_run(other, None, "2026-06-30", first=True) == date(2026, 6, 30), "it resumes from another run's checkpoint"
    assert other.read_record()["template_date"] == "2026-06-30"


def test_every_rank_takes_the_day_of_the_first(
    tmp_path: Path, make_experiment: Callable[..., Experiment], new_run: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tmp_path, make_experiment(), "one")
    monkeypatch.setattr(clock, "gather_object", lambda found: ["2026-07-04", *found])
    assert day_of_run(run, None, None, first=False) == date(2026, 7, 4)
    assert "template_date" not in run.read_record(), "the first rank alone writes the record"
