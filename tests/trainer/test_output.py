"""What a rank prints while it works on something long."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from trainer import output


def test_a_long_stage_is_named_and_named_again_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "EVERY", 0.4)
    monkeypatch.setattr(output, "FIRST", 0.1)
    with output.stage("reading the data", after=5):
        pass
    with output.stage("evaluating", after=0.1) as stage:
        stage.at(0, 84, "pairs")
        time.sleep(0.3)
        stage.at(1040, 2084, "pairs")
        time.sleep(0.45)
    assert capsys.readouterr().out.splitlines() == ["evaluating: 0 of 84 pairs", "evaluating: 1,040 of 2,084 pairs"]


def test_a_stage_without_a_count_has_its_seconds_and_is_silent_while_other_lines_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "EVERY", 0.3)
    monkeypatch.setattr(output, "FIRST", 0.1)
    with output.stage("importing torch", after=0):
        time.sleep(0.2)
        output.say("a line")
        time.sleep(0.2)
        assert capsys.readouterr().out.splitlines() == ["importing torch", "a line"]
        time.sleep(0.2)
    assert capsys.readouterr().out.splitlines() == ["importing torch (1 s)"]


def test_only_the_innermost_stage_of_the_first_rank_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with output.stage("outer", after=0.1), output.stage("inner", after=0.1):
        time.sleep(0.3)
    assert capsys.readouterr().out.splitlines() == ["inner"]
    monkeypatch.setenv("RANK", "1")
    with output.stage("other rank", after=0):
        pass
    assert capsys.readouterr().out == ""


def test_it_can_print_before_anything_heavy_is_loaded() -> None:
    code = "import sys; from trainer import output; sys.exit(bool({'torch', 'tqdm', 'pydantic'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
