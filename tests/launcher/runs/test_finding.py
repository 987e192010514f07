"""Which run a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.runs.finding import AmbiguousName, choose, newest_first
from launcher.runs.run_dir import RunDir


def make(root: Path, name: str, hour: int, **record: str) -> None:
    run = RunDir.of(root, "out", "1", "m", name)
    run.create({run.experiment: "{}"}, {"run": name, "created": f"2026-11-24T{hour}:00:00+00:00", **record})


def test_a_run_that_python_started_is_found_by_its_key_as_any_other(tmp_path: Path) -> None:
    make(tmp_path, "exp_1-20261124-100000-aaaa", 10, key="exp_1", experiment_id="1", backend="host")
    make(tmp_path, "exp_1-20261124-110000-bbbb", 11, key="exp_1", experiment_id="1", backend="python")
    runs = newest_first([tmp_path / "out"])
    for word in ("exp_1", "1", "latest", "exp_1-20261124-11"):
        assert choose(word, runs).name == "exp_1-20261124-110000-bbbb"


def test_a_beginning_that_fits_several_runs_names_them_and_none_names_the_nearest(tmp_path: Path) -> None:
    for hour, name in ((10, "alpha-1"), (11, "alpha-2")):
        make(tmp_path, name, hour, key="exp_1")
    runs = newest_first([tmp_path / "out"])
    with pytest.raises(AmbiguousName, match=r"(?s)matches several runs; type more of the name:.*alpha-2\n.*alpha-1$"):
        choose("alpha", runs)
    with pytest.raises(UsageError, match="run 'alpa-1' not found: did you mean 'alpha-1'"):
        choose("alpa-1", runs)
    with pytest.raises(UsageError, match="no runs yet; start one with: launcher run EXP"):
        choose("alpha", [])
