"""What is told of a transfer while it runs."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from launcher.storage import progress
from launcher.storage.progress import Lines, Meter, Progress


def test_a_transfer_that_stalls_is_told_again_and_again() -> None:
    said: list[str] = []
    with Meter(2_000_000, Lines("uploaded", said.append, interval=0.5)) as meter:
        meter.add(1_000_000)
        deadline = time.monotonic() + 20
        while len(said) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(said) >= 2
    assert all(line.startswith("uploaded 1.0 MB of 2.0 MB (50%), ") for line in said)
    told = len(said)
    time.sleep(1.2)
    assert len(said) == told, "nothing is told after the end"


def test_a_transfer_that_takes_less_than_a_second_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = SimpleNamespace(monotonic=lambda: 5.0)
    monkeypatch.setattr(progress, "time", clock)
    with Meter(10, Lines("uploaded", said.append)) as meter:
        clock.monotonic = lambda: 5.9
        meter.add(9)
        assert said == []
        clock.monotonic = lambda: 6.1
        meter.add(1)
    assert said == [], "it is complete"


def test_a_transfer_whose_size_is_unknown_yet_says_that_it_waits() -> None:
    said: list[str] = []
    lines = Lines("downloaded", said.append, interval=0.0)
    lines(Progress(0, 0))
    assert said == ["downloaded nothing yet, waiting for 0 s"]
