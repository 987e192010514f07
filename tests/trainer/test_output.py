"""What a rank prints while it works on something long."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from trainer import output


class Clock:
    """The time that ``trainer.output`` sees, which passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


class Told:
    """The lines that were printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._all: list[str] = []

    @property
    def lines(self) -> list[str]:
        self._all += self._capsys.readouterr().out.splitlines()
        return self._all

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + 60
        while line not in self.lines:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stages are named after 0.1 s, and again after 0.3 s of silence."""
    clock = Clock()
    monkeypatch.setattr(output, "time", clock)
    monkeypatch.setattr(output, "EVERY", 0.3)
    monkeypatch.setattr(output, "FIRST", 0.1)
    monkeypatch.setattr(output._STATE, "last", clock.now)
    return clock


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(capsys)


def test_a_long_stage_is_named_and_named_again_and_a_short_one_is_not(clock: Clock, told: Told) -> None:
    with output.stage("reading the data", after=5):
        clock.now += 0.2
    with output.stage("evaluating", after=0.1) as stage:
        stage.at(0, 84, "pairs")
        clock.now += 0.1
        told.wait_for("evaluating: 0 of 84 pairs")
        stage.at(1040, 2084, "pairs")
        clock.now += 0.3
        told.wait_for("evaluating: 1,040 of 2,084 pairs")
    assert told.lines == ["evaluating: 0 of 84 pairs", "evaluating: 1,040 of 2,084 pairs"]


def test_a_stage_without_a_count_has_its_seconds_and_is_silent_while_other_lines_come(clock: Clock, told: Told) -> None:
    with output.stage("importing torch", after=0):
        clock.now += 0.2
        output.say("a line")
        clock.now += 0.2
        time.sleep(0.6)  # in which it would be named, did the line not count
        assert told.lines == ["importing torch", "a line"]
        clock.now += 0.2
        told.wait_for("importing torch (1 s)")
    assert told.lines == ["importing torch", "a line", "importing torch (1 s)"]


def test_only_the_innermost_stage_of_the_first_rank_is_named(monkeypatch: pytest.MonkeyPatch, clock: Clock, told: Told) -> None:
    with output.stage("outer", after=0.1), output.stage("inner", after=0.1):
        clock.now += 0.1
        told.wait_for("inner")
        time.sleep(0.2)  # in which the outer one would be named
        assert told.lines == ["inner"], "the outer one is named when it is the innermost again"
    monkeypatch.setenv("RANK", "1")
    before = list(told.lines)
    with output.stage("other rank", after=0):
        pass
    assert told.lines == before


def test_it_can_print_before_anything_heavy_is_loaded() -> None:
    code = "import sys; from trainer import output; sys.exit(bool({'torch', 'tqdm', 'pydantic'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
