"""A checkpoint that was damaged after it was written is never trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir
from trainer.checkpoints.checkpoints import resume_point
from trainer.checkpoints.origin import FILE
from trainer.checkpoints.sound import damage, listed

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]
WEIGHTS = "adapter_model.safetensors"


def written(folder: Path) -> Path:
    (folder / "global_step2").mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    (folder / WEIGHTS).write_bytes(bytes(range(200)))
    (folder / "global_step2" / "states.pt").write_bytes(b"moments")
    (folder / FILE).write_text(json.dumps({"files": listed(folder)}))
    return folder


def flipped(checkpoint: Path) -> None:
    content = bytearray((checkpoint / WEIGHTS).read_bytes())
    content[100] ^= 1
    (checkpoint / WEIGHTS).write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda folder: None, None),
        (flipped, f"{WEIGHTS} differs from what was written"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"cut"), f"{WEIGHTS} has 3 bytes, and was written with 200"),
        (lambda folder: (folder / "global_step2" / "states.pt").unlink(), "global_step2/states.pt is missing"),
        (lambda folder: (folder / FILE).write_text('{"files": {'), f"{FILE} cannot be read"),
        (lambda folder: (folder / FILE).write_text("{}"), None),  # an earlier version listed no files
        (lambda folder: (folder / "note.txt").write_text("mine"), None),
    ],
)
def test_what_is_no_longer_as_it_was_written_is_named(tmp_path: Path, harm: Callable[[Path], None], found: str | None) -> None:
    kept = written(tmp_path / "checkpoint-2")
    harm(kept)
    assert damage(kept) == found


def test_a_run_goes_on_from_its_newest_checkpoint_that_is_not_damaged(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, capfd: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment()
    run = new_run(tmp_path, experiment, "own")
    for step in (2, 4, 6):
        written(run.path / f"checkpoint-{step}")
    flipped(run.path / "checkpoint-6")
    assert resume_point(run, experiment, tmp_path) == run.path / "checkpoint-4"
    assert capfd.readouterr().out == (
        f"warning: checkpoint-6 is damaged: {WEIGHTS} differs from what was written; it is kept as damaged-checkpoint-6, "
        "and the run resumes from checkpoint-4\n"
    )
    assert [path.name for path in run.checkpoints()] == ["checkpoint-2", "checkpoint-4"]
    for step in (2, 4):
        flipped(run.path / f"checkpoint-{step}")
    assert resume_point(run, experiment, tmp_path) is None
    assert "and the run starts at the first step" in capfd.readouterr().out


def test_a_damaged_checkpoint_that_the_experiment_names_is_an_error(
    tmp_path: Path, make_experiment: Make, new_run: NewRun
) -> None:
    kept = written(tmp_path / "kept")
    experiment = make_experiment(resume_from_checkpoint="kept")
    run = new_run(tmp_path, experiment, "another")
    assert resume_point(run, experiment, tmp_path) == kept
    flipped(kept)
    with pytest.raises(ExperimentError, match=r"kept is damaged: adapter_model\.safetensors differs from what was written"):
        resume_point(run, experiment, tmp_path)
