"""How a training looks in Python."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.errors import UsageError
from trainer import output
from trainer.screen import Bar, Lines, Silent, screen


def train(step: int, total: int = 100) -> str:
    numbers = {"loss": 0.5, "rewards/margins": 1.0, "rewards/accuracies": 0.75, "learning_rate": 1e-4, "seconds": float(step)}
    return json.dumps({"type": "train", "step": step, "total_steps": total, **numbers})


def evaluation(step: int, total: int = 100) -> str:
    return json.dumps({"type": "eval", "step": step, "total_steps": total, "eval_loss": 0.4, "seconds": float(step)})


def summary(total: int = 100) -> str:
    return json.dumps({"type": "summary", "step": total, "total_steps": total, "seconds": 100.0})


def shown(out: Any) -> None:
    with output.using(out):
        output.say("420 pairs")
        for step in range(1, 101):
            output.event(train(step))
        output.event(evaluation(100))
        output.event(summary())


def test_lines_are_few_and_short(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Lines(pairs_a_step=8))
    lines = capsys.readouterr().out.splitlines()
    assert 20 <= len(lines) <= 32
    assert lines[:2] == ["420 pairs", "step   1/100  loss 0.5000  margin +1.000  accuracy 0.75  lr 1.00e-04"]
    assert lines[-3:] == [
        "step 100/100  loss 0.5000  margin +1.000  accuracy 0.75  lr 1.00e-04  8.0 pairs/s",
        "step 100/100  eval  loss 0.4000",
        "trained 100/100 steps  100.0 s",
    ]


def test_a_bar_has_the_steps_and_the_newest_figures_and_lines_stand_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Bar(pairs_a_step=8))
    out, err = capsys.readouterr()
    assert out.splitlines() == ["420 pairs", "step 100/100  eval  loss 0.4000", "trained 100/100 steps  100.0 s"]
    last = err.replace("\r", "\n").splitlines()[-1]
    assert "100/100" in last
    assert "loss 0.5000  margin +1.000  accuracy 0.75" in last
    assert "{" not in out + err


def test_nothing_is_printed_where_none_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Silent())
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal_and_lines_are_printed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(screen("auto", 8), Bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert isinstance(screen("auto", 8), Lines)
    assert isinstance(screen("bar", 8), Bar)
    assert isinstance(screen("none", 8), Silent)
    with pytest.raises(UsageError, match="progress must be one of auto, bar, print, none; found 'json'"):
        screen("json", 8)
