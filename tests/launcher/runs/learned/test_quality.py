"""Which figures say how well a run tells chosen from rejected answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.runs.follow import Metric
from launcher.runs.learned.quality import Quality, last_evaluation


def train(**values: Any) -> Metric:
    return Metric("train", 30, 40, {"rewards/accuracies": 1.0, "rewards/margins": 3.0, **values})


def evaluation(**values: Any) -> Metric:
    return Metric("eval", 20, 40, {"eval_rewards/accuracies": 0.9, "eval_rewards/margins": 2.0, **values})


def test_a_run_that_trains_shows_its_last_evaluation_and_without_one_its_training_pairs():
    assert Quality.of({}, evaluation(), train()) == Quality(0.9, 2.0, "validation", 20)
    assert Quality.of({}, None, train()) == Quality(1.0, 3.0, "training", 30)
    assert Quality.of({}, None, None) == Quality()


def test_an_evaluation_before_the_first_step_is_not_shown_for_weights_that_have_been_trained():
    before = Metric("eval", 0, 40, {"eval_rewards/accuracies": 0.0, "eval_rewards/margins": 0.0})
    assert Quality.of({}, before, train()) == Quality(1.0, 3.0, "training", 30)
    assert Quality.of({}, before, None) == Quality(0.0, 0.0, "validation", 0)


def test_a_run_that_is_done_shows_the_weights_that_were_saved():
    after = {"eval_rewards/accuracies": 0.8, "eval_rewards/margins": 1.5}
    assert Quality.of({"result": {"after": after}}, evaluation(), train()) == Quality(0.8, 1.5, "validation")
    learned = {"after": {"accuracy": {"value": 0.81, "low": 0.7, "high": 0.9}, "margin": {"value": 1.6}}}
    assert Quality.of({"result": {"after": after, "learned": learned}}, None, None) == Quality(0.81, 1.6, "validation")


def test_figures_that_are_no_numbers_are_left_to_the_next_ones():
    broken = evaluation(**{"eval_rewards/margins": "nan"})
    assert Quality.of({"result": {"after": {"eval_rewards/accuracies": 1.0}}}, broken, train()).pairs == "training"


def test_an_evaluation_is_found_however_many_steps_follow_it(tmp_path: Path):
    steps = tmp_path / "steps.jsonl"
    assert last_evaluation(steps) is None
    steps.write_text("")
    assert last_evaluation(steps) is None
    lines = [{"type": "eval", "step": n, "eval_loss": 0.5} for n in (0, 10)]
    lines += [{"type": "train", "step": n, "loss": 0.4, "text": "x" * 50} for n in range(11, 3000)]
    steps.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert steps.stat().st_size > 1 << 16
    found = last_evaluation(steps)
    assert found is not None
    assert (found.step, found.number("loss")) == (10, 0.5)
    with steps.open("a") as file:
        file.write('{"type": "eval", "step": 3000, "eval_lo')
    cut = last_evaluation(steps)
    assert cut is not None
    assert cut.step == 10


def test_a_log_without_an_evaluation_has_none(tmp_path: Path):
    steps = tmp_path / "steps.jsonl"
    steps.write_text('{"type": "train", "step": 1, "loss": 0.7}\n')
    assert last_evaluation(steps) is None
