from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import ExperimentError, Warned
from launcher.experiment.schema import Experiment
from trainer.checkpoints.choices import other_choices
from trainer.checkpoints.remembered import MICRO, PATH

Make = Callable[..., Experiment]
ROUNDS = "sums round differently, and the result is not bit for bit that of an uninterrupted run"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A checkpoint of the plain path, with micro-batches of 4 pairs."""
    (tmp_path / "trainer_state.json").write_text(json.dumps({"stateful_callbacks": {PATH: "plain", MICRO: 4}}))
    return tmp_path


def test_the_choices_of_the_checkpoint_s_run_are_continued_without_a_word(plain: Path, make_experiment: Make) -> None:
    assert list(other_choices(make_experiment(), plain, 4)) == []
    assert list(other_choices(make_experiment(loss_type="aot", per_device_train_batch_size=8), plain, 4)) == []
    assert list(other_choices(make_experiment(loss_type="aot"), None, 4)) == []


def test_another_path_and_other_micro_batches_round_differently_and_that_is_said(plain: Path, make_experiment: Make) -> None:
    fast = make_experiment(dpo_path="fast")
    assert list(other_choices(fast, plain, 4)) == [f"dpo_path: fast, but the checkpoint's run took the plain path: {ROUNDS}"]
    smaller = make_experiment(per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert list(other_choices(smaller, plain, 2)) == [f"micro-batches of 2 pairs instead of 4 in the checkpoint's run: {ROUNDS}"]


def test_a_loss_over_a_micro_batch_is_no_other_one_in_a_resumed_run(plain: Path, make_experiment: Make) -> None:
    smaller = make_experiment(loss_type="aot", per_device_train_batch_size=2, gradient_accumulation_steps=2)
    with pytest.raises(ExperimentError) as caught:
        list(other_choices(smaller, plain, 2))
    assert str(caught.value) == (
        f"hyperparameters.per_device_train_batch_size: {plain} was trained on other micro-batches, over which loss_type aot is "
        "another loss\n    expected: 4\n    found:    2\n"
        "    hint:     restore the old value, or start over with resume_from_checkpoint: false"
    )
    said = list(other_choices(make_experiment(loss_type="aot"), None, 2))
    assert said == ["micro-batches of 2 pairs, as memory has run out: loss_type aot compares fewer pairs with each other"]
    assert isinstance(said[0], Warned)
