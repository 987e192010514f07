"""The line of a terminal that follows a run, and the words of a plain stream while the run starts."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from launcher.cli.terminal import live
from launcher.cli.terminal.live import Pace, Plain, bar_line, waiting, waiting_line
from launcher.runs.follow import Metric, Text


def step(number: int, total: int | None = 1000, rate: float | None = 15.94, **values: Any) -> Metric:
    figures = {"loss": 0.65123, "rewards/margins": 0.0431, "rewards/accuracies": 0.75, "learning_rate": 1e-5}
    return Metric("train", number, total, {**figures, **values}, rate)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (60, "400/1000  ━━─────  loss 0.6512  margin +0.043  1:03:20 left"),
        (80, "step 400/1000  ━━━─────  loss 0.6512  margin +0.043  15.9 pairs/s  1:03:20 left"),
        (
            120,
            "step 400/1000  ━━━━━━━━────────────  loss 0.6512  margin +0.043  accuracy 0.75  15.9 pairs/s  1:03:20 left"
            "  after 8:41",
        ),
    ],
)
def test_the_bar_has_its_step_and_the_time_left_at_any_width(width, line):
    assert bar_line(step(400), width, 3800, 521) == line
    assert len(line) < width


def test_nothing_is_cut_in_the_middle_of_a_number():
    for width in range(40, 140):
        for number in (1, 99_999):
            drawn = bar_line(step(number, 100_000), width, 360_000, 360_000)
            assert len(drawn) < width
            assert f"{number}/100000" in drawn


def test_a_run_without_a_known_length_has_no_bar():
    assert bar_line(step(3, None, None), 80, None, 5) == "step 3  loss 0.6512  margin +0.043  accuracy 0.75  after 0:05"


def test_after_the_last_step_it_finishes():
    assert bar_line(step(40, 40), 60, 0, 521) == "40/40  ━━━━━━━━━━━━━  loss 0.6512  margin +0.043  finishing"


def test_the_time_left_is_that_of_the_steps_seen_with_their_evaluations():
    now = 100.0
    pace = Pace(lambda: now)
    pace.add(step(1, 11, seconds=10.0))
    assert pace.left() is None
    pace.add(step(3, 11, seconds=16.0))
    assert pace.left() == 24.0
    now += 4
    assert pace.left() == 20.0


def test_what_a_run_does_before_its_first_step_is_cut_to_the_line():
    assert waiting_line("loading the model", 12.3, 60, "*") == "* loading the model … 12 s"
    assert waiting_line("x" * 80, 12.3, 60, "*") == "* " + "x" * 50 + " … 12 s"


def test_a_run_that_waits_for_a_server_has_a_line_a_minute_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    plain = Plain(thin=True, clock=lambda: now)
    plain.show(Text("waiting: the hub (https://huggingface.co) cannot be reached: timeout; trying again"))
    for now in range(1, 80):  # noqa: B007
        plain.tick()
    assert capsys.readouterr().err == ""


def test_what_a_run_waits_for_is_printed_once_and_no_other_words_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    plain = Plain(thin=True, clock=lambda: now)
    for now in range(1, 6):  # noqa: B007
        plain.tick()
    plain.show(Text("waiting: no node has a free GPU"))
    for now in range(6, 80):  # noqa: B007
        plain.tick()
    plain.show(Text("waiting: pulling the image"))
    for now in range(80, 175):  # noqa: B007
        plain.tick()
    told = capsys.readouterr()
    assert told.out == "waiting: no node has a free GPU\nwaiting: pulling the image\n"
    assert told.err == "waiting: the run is starting (4 s)\nwaiting: pulling the image (90 s)\n"


def test_a_plain_stream_is_told_soon_and_then_once_a_minute_that_a_silent_run_starts(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    plain = Plain(thin=True, clock=lambda: now)
    for now in range(1, 70):  # noqa: B007
        plain.tick()
    assert capsys.readouterr().err == "waiting: the run is starting (4 s)\nwaiting: the run is starting (64 s)\n"
    plain.show(Text("loading the model"))
    now += 3
    plain.tick()
    plain.show(step(1))
    now += 50
    plain.tick()
    assert capsys.readouterr().err == ""


def test_what_takes_long_before_a_run_is_told_on_a_plain_stream_and_what_is_short_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_QUIET", 0.05)
    told = ""
    with waiting("reading the data"):
        deadline = time.monotonic() + 60
        while not (told := told + capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert re.match(r"waiting: reading the data \(\d+ s\)\n", told)
    monkeypatch.setattr(live, "_QUIET", 60.0)
    with waiting("reading the data"):
        pass
    assert capsys.readouterr().err == ""
