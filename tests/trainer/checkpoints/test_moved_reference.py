from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
MOVES: dict[str, Any] = {
    "full_finetuning": True,
    "sync_ref_model": True,
    "ref_model_sync_steps": 1,
    "ref_model_mixup_alpha": 0.5,
    "save_strategy": "steps",
    "save_steps": 2,
}


def test_a_resumed_run_has_the_reference_that_the_training_had_moved(
    tmp_path: Path, few_pairs: Path, make_experiment: Make, new_run: NewRun, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.trainer.trained import events, train_in

    def run_from(name: str, checkpoint: Path | None) -> RunDir:
        resume = {} if checkpoint is None else {"resume_from_checkpoint": str(checkpoint)}
        experiment = make_experiment(experiment={"datasets_path": str(few_pairs)}, **MOVES, **resume)
        run = new_run(tmp_path, experiment, name)
        train_in(tmp_path, run, experiment)
        return run

    whole = run_from("whole", None)
    rest = run_from("rest", whole.path / "checkpoint-2")
    figures = [[(event["loss"], event["rewards/margins"]) for event in events(run, "train")][-2:] for run in (whole, rest)]
    assert figures[1] == figures[0]
    weights = [load_file(run.adapter / "model.safetensors") for run in (whole, rest)]
    assert [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])] == []

    older = whole.path / "checkpoint-2"  # as an earlier version wrote it
    (older / "reference" / "weights.safetensors").unlink()
    assert [path.name for path in older.glob("*.safetensors")] == ["model.safetensors"], "which a server loads"
    made_of = json.loads((older / "origin.json").read_text())
    (older / "origin.json").write_text(json.dumps({name: value for name, value in made_of.items() if name != "files"}))
    run_from("of an earlier version", older)
    assert "checkpoint-2 lacks the reference that sync_ref_model had moved: it starts again from" in capfd.readouterr().out
