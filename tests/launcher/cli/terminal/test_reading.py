"""How far a check of a long table is: a bar on a terminal, lines elsewhere, nothing for a short one."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from launcher.cli.terminal.reading import _Lines, reading
from launcher.data.pairs import read_pairs
from launcher.data.tables.progress import EVERY, watched
from launcher.data.tables.reading import Reading
from launcher.experiment.schema import Experiment


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_pass_is_told_now_and_then_and_at_its_end_and_a_short_one_never() -> None:
    told: list[tuple[int, int, str]] = []
    for count in (EVERY, 2 * EVERY + 1):
        rows = range(count)
        assert list(watched(rows, "checking a.csv", lambda *now: told.append(now))) == list(rows)
    total = 2 * EVERY + 1
    assert told == [(done, total, "checking a.csv") for done in (0, EVERY, 2 * EVERY, total)]


def test_elsewhere_a_line_comes_after_some_seconds_and_rarely(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = _Lines(lambda: now)
    for second in range(40):
        now = float(second)
        lines.rows(1000 * second, 40_000, "checking a.csv")
    lines.rows(40_000, 40_000, "checking a.csv")
    assert capsys.readouterr().err.splitlines() == [
        "checking a.csv: 3,000 of 40,000 rows (8%)",
        "checking a.csv: 18,000 of 40,000 rows (45%)",
        "checking a.csv: 33,000 of 40,000 rows (82%)",
    ]


def test_a_terminal_has_a_bar_for_the_passes_of_a_long_table_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "."})
    drawn = {}
    for count in (10, EVERY + 1):
        lines = "".join(f"Why {n}?,so {n},no\n" for n in range(count))
        (tmp_path / "training_data.csv").write_text("prompt,chosen,rejected\n" + lines)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", Terminal())
            patched.setenv("TERM", "xterm")
            patched.setenv("COLUMNS", "120")
            with reading() as told:
                read_pairs(experiment, Reading(tmp_path, say=told))
            drawn[count] = sys.stderr.getvalue()
    assert drawn[10] == ""
    assert "checking training_data.csv" in drawn[EVERY + 1]
    assert "of 5,001 rows" in drawn[EVERY + 1]
