"""What a sweep on this machine says of its points; torchrun is played by ``tests/fakes``."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from launcher.launch.rendered import Choice
from launcher.launch.sweeps import local
from launcher.launch.sweeps.grid import plan_sweep
from tests.launcher.cli.typed import FAKES, with_demo


def test_a_line_that_would_say_the_same_again_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_PAUSE", 0.0)
    monkeypatch.setattr(local, "_TICK", 0.02)
    monkeypatch.setenv("PYTHONPATH", f"{FAKES}{os.pathsep}{Path(__file__).parents[4]}")
    monkeypatch.setenv("FAKE_WAIT", "1")
    said: list[str] = []
    with with_demo(tmp_path) as home:
        monkeypatch.chdir(home)
        sweep = plan_sweep(Choice("demo", run_name="grid"), ["hyperparameters.learning_rate=1e-5"])
        local.sweep_here(sweep, "host", None, None, lambda _: None).run(lambda: None, said.append)
    assert any(line.endswith("no step yet") for line in said)
    assert max(Counter(said).values()) == 1, said
