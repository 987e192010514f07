from __future__ import annotations

import json
import time
from pathlib import Path

from launcher.runs.run_dir import RunDir
from trainer.logs import StepLog


def new_run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "r")
    run.create({run.experiment: "{}"}, {})
    return run


def test_an_attempt_that_begins_again_keeps_nothing_of_the_one_before_in_the_log(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    first = StepLog(run, resume_step=0, attempt=1)
    first.write({"type": "eval", "step": 0, "eval_loss": 0.7})
    first.write({"type": "train", "step": 1, "loss": 0.7})
    first.close()  # killed before its first checkpoint
    time.sleep(1.1)  # event files are read in the order of their names, which have whole seconds and then a count: 10 before 9
    second = StepLog(run, resume_step=0, attempt=2)
    second.write({"type": "eval", "step": 0, "eval_loss": 0.6})
    second.close()
    assert [json.loads(line)["eval_loss"] for line in run.steps.read_text().splitlines()] == [0.6]
    assert len((run.logs / "dpo_train_steps.cut-2.jsonl").read_text().splitlines()) == 2

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.tensorboard)).Reload()
    assert board.Tags()["scalars"] == ["eval/loss"] or board.Scalars("train/loss") == []
    assert [round(scalar.value, 3) for scalar in board.Scalars("eval/loss")] == [0.6]


def test_without_tensorboard_in_report_to_there_are_no_events(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    log = StepLog(run, resume_step=0, attempt=1, events=False)
    log.write({"type": "train", "step": 1, "loss": 0.7})
    log.close()
    assert list(run.tensorboard.iterdir()) == []
    assert len(run.steps.read_text().splitlines()) == 1
