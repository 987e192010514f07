"""A sweep that is given to a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.errors import ExperimentError, LauncherError, Mistake
from launcher.launch.rendered import Choice
from launcher.launch.sweeps.detached import detach
from launcher.launch.sweeps.grid import plan_sweep
from launcher.launch.sweeps.local import Sweeping
from launcher.launch.sweeps.slots import Slots


def test_a_process_that_ends_before_a_point_has_started_is_an_error_with_its_words_and_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = plan_sweep(Choice("demo", run_name="grid"), ["hyperparameters.beta=0.1,0.2"])
    found = Sweeping(sweep, "host", Slots(((),)), {}, {}, None, tmp_path / "sweeps" / "grid.log")

    def work() -> int:
        sys.stdout.write("a line of the sweep\n")
        raise ExperimentError(Mistake("model_name", "folder ./model not found"))

    with pytest.raises(LauncherError) as error:
        detach(found, work)
    assert str(error.value) == ("grid did not start:\n    a line of the sweep\n    error: model_name: folder ./model not found")
    assert error.value.exit_code == 42
