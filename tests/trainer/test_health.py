from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import read_pairs
from launcher.data.tables.reading import Reading
from launcher.errors import HealthError
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.watched import Health
from launcher.health import Answered, Facts, Watch
from launcher.runs.run_dir import RunDir
from tests.launcher.health.record import Rows, changed_data, doubled, giant
from tests.trainer.trained import train_in
from trainer.health import HealthCallback

Make = Callable[..., Experiment]
NewRun = Callable[[Path, Experiment, str], RunDir]


def test_a_scaled_step_may_overflow_until_the_scale_is_used_up() -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    def steps_until_the_end(gradients: list[float], *, scaled: bool) -> int | None:
        health = HealthCallback(Health(), Facts(patience=16 if scaled else 0))
        for step, gradient in enumerate(gradients, 1):
            try:
                health.on_log(
                    TrainingArguments(use_cpu=True, report_to="none"),
                    TrainerState(global_step=step),
                    TrainerControl(),
                    {"loss": 0.69, "grad_norm": gradient},
                )
            except HealthError:
                return step
        return None

    assert steps_until_the_end([1.0, math.inf], scaled=False) == 2
    assert steps_until_the_end([math.inf, math.nan, 1.0] * 10, scaled=True) is None
    assert steps_until_the_end([math.inf] * 20, scaled=True) == 17


@pytest.mark.parametrize(("change", "rule"), [(giant, "giant_answer"), (doubled, "duplicates"), (list, None)])
def test_a_fault_planted_in_the_demos_rows_is_named_before_the_first_step(
    change: Callable[[Rows], Rows], rule: str | None, tmp_path: Path, tiny_model: Path, make_experiment: Make
) -> None:
    from transformers import AutoTokenizer

    from trainer.inputs.tokens.tokens import tokenize

    changed_data(tmp_path / "data", change)
    experiment = make_experiment(experiment={"datasets_path": str(tmp_path / "data")}, max_seq_length=256)
    pairs = read_pairs(experiment, Reading(tmp_path, {})).train
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokens = tokenize(pairs, tokenizer, experiment.hyperparameters, source="training_data.csv", cache=tmp_path / "cache")
    facts = Facts(batch=16, answers=tokens.answers, max_seq_length=256)
    found = Watch(experiment.health.model_dump(), facts).data()
    assert [one.rule for one in found] == [rule] * (rule is not None)
    if rule == "giant_answer":
        assert "in row 9 of the training data is 3" in found[0].sentence, "row 7, counted from 0, below the line of names"
    if rule == "duplicates":
        assert found[0].sentence.startswith("42 of 462 training pairs (9 %) repeat an earlier one")


def test_sample_answers_that_degenerate_are_a_finding_and_stop_the_run_with_its_next_line_where_the_rule_says_so(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from trainer.logs import StepLog

    args, line = TrainingArguments(use_cpu=True, report_to="none"), {"loss": 0.5, "grad_norm": 1.0}
    good, empty = [Answered("Rest it for an hour.", 6, False)] * 2, [Answered("", 1, False)] * 2
    for name, action, is_training in (("warned", "warn", True), ("stopped", "stop", True), ("ended", "stop", False)):
        run = new_run(tmp_path, make_experiment(), name)
        health = HealthCallback(Health.model_validate({"degenerate_answers": action}), run=name)
        health.begin(run, StepLog(run, resume_step=0, attempt=1, events=False))
        health.answered(10, good, good, is_training=is_training)
        assert not run.read_record()["health"]
        health.answered(20, good, empty, is_training=is_training)
        (found,) = run.read_record()["health"]
        assert (found["rule"], found["action"], found["first_step"]) == ("degenerate_answers", action, 20)
        control = health.on_log(args, TrainerState(global_step=21, max_steps=40), TrainerControl(), dict(line))
        assert control.should_training_stop is control.should_save is (name == "stopped")
        warned = "warning: 2 of 2 sample answers are degenerate (of the base model's 0): 2 are empty: lower learning_rate" in (
            capsys.readouterr().out
        )
        assert warned is (name != "stopped"), "what stops the run is told by its error"


@pytest.mark.slow
def test_a_rule_about_the_data_stops_the_run_before_its_first_step_and_a_resumed_run_is_only_warned(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, capsys: pytest.CaptureFixture[str]
) -> None:
    changed_data(tmp_path / "data", lambda rows: [*rows[:8], *rows[:8]])
    data = {"datasets_path": str(tmp_path / "data"), "validation_filename": None}
    experiment = make_experiment(experiment={"health": {"duplicates": "stop"}, **data}, max_steps=1)
    run = new_run(tmp_path, experiment, "doubled")
    with pytest.raises(HealthError) as stopped:
        train_in(tmp_path, run, experiment)
    assert str(stopped.value) == (
        "8 of 16 training pairs (50 %) repeat an earlier one: they count more than the others: remove the repeated rows "
        "(health.duplicates); stopped before the first step: `launcher resume doubled` trains on them, and the rule then only "
        "warns"
    )
    assert not run.steps.exists() or not run.steps.read_text(), "no step was trained"
    train_in(tmp_path, run, experiment, attempt=2)
    assert run.adapter.is_dir()


@pytest.mark.slow
def test_a_rule_that_stops_leaves_a_checkpoint_and_a_resumed_run_is_only_warned(
    tmp_path: Path, make_experiment: Make, new_run: NewRun, capsys: pytest.CaptureFixture[str]
) -> None:
    changed_data(tmp_path / "data", lambda rows: rows[:26])
    settings: dict[str, Any] = {"max_steps": 11, "per_device_train_batch_size": 13, "max_seq_length": 52}
    health = {"reward_scale": {"action": "stop", "threshold": 1e-9}, "truncated": {"threshold": 0.001}}
    data = {"datasets_path": str(tmp_path / "data"), "validation_filename": None}
    experiment = make_experiment(experiment={"health": health, **data}, **settings)
    run = new_run(tmp_path, experiment, "stopped")
    with pytest.raises(HealthError) as stopped:
        train_in(tmp_path, run, experiment)
    assert "raise beta, or lower learning_rate (health.reward_scale); stopped at step 10 of 11 with checkpoint-10" in str(
        stopped.value
    )
    assert "`launcher resume stopped` continues with the same settings, and the rule then only warns" in str(stopped.value)
    assert [path.name for path in run.checkpoints()] == ["checkpoint-10"]
    found = {one["rule"]: one for one in run.read_record()["health"]}
    assert (found["reward_scale"]["action"], found["reward_scale"]["last_step"]) == ("stop", 10)
    assert (found["truncated"]["first_step"], found["truncated"]["last_step"]) == (0, 0)
    assert capsys.readouterr().out.count("(health.truncated)") == 1, "a finding is printed once"

    train_in(tmp_path, run, experiment, attempt=2)
    assert run.adapter.is_dir()
    assert [event["step"] for event in map(json.loads, run.steps.read_text().splitlines())][-2:] == [11, 11]
    assert {one["rule"]: one["action"] for one in run.read_record()["health"]} == {"truncated": "warn", "reward_scale": "stop"}
    assert "(health." not in capsys.readouterr().out, "what was found before the resume is not printed again"

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = EventAccumulator(str(run.tensorboard)).Reload().Tags()
    assert "health/text_summary" in tags["tensors"]
