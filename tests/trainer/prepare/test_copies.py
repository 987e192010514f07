"""Which of a run's own checkpoints is uploaded when a run starts again; the other node is played."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.runs.run_dir import RunDir
from trainer.prepare import copies


def test_a_checkpoint_that_one_node_alone_has_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path / "r")
    run.create({run.experiment: "{}"}, {"run": "r"})
    for step in (2, 4):
        (run.path / f"checkpoint-{step}").mkdir()
        (run.path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert [path.name for path in run.checkpoints()] == ["checkpoint-2", "checkpoint-4"]

    def gathered(mine: list[Any]) -> list[Any]:
        return [*mine, ["checkpoint-2"]] if isinstance(mine[0], list) else [*mine, False]

    monkeypatch.setattr(copies, "gather_object", gathered)
    offered: list[str] = []
    rank: Any = SimpleNamespace(run=run, first=True)
    place: Any = SimpleNamespace(steps=list)
    told: Any = SimpleNamespace(offer=lambda checkpoint, best: offered.append(checkpoint.name))
    copies._offer_own(rank, place, told)
    assert offered == ["checkpoint-2"]
