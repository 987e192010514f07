from __future__ import annotations

import json

import pytest

from launcher.runs.learned.losses import compare_losses


def lines(*losses: float | str, begin: int = 1) -> list[str]:
    return [json.dumps({"type": "train", "step": step, "loss": loss}) for step, loss in enumerate(losses, begin)]


def test_the_same_doubles_in_every_step_are_equal() -> None:
    found = compare_losses([*lines(0.7, 0.1 + 0.2), '{"type": "eval", "step": 2, "eval_loss": 1.0}'], lines(0.7, 0.1 + 0.2))
    assert (found.are_equal, found.digits, found.first) == (True, 17, None)
    assert found.sentence == "same losses, bit for bit, in 2 of 2 steps"


def test_one_bit_in_one_step_is_named_with_both_values_and_the_equal_digits() -> None:
    found = compare_losses(lines(0.7, 0.3, 0.25), lines(0.7, 0.1 + 0.2, 0.25))
    assert (found.are_equal, found.first, found.values, found.digits) == (False, 2, (0.3, 0.1 + 0.2), 15)
    assert found.sentence == (
        "losses equal to 15 digits in 3 steps, not bit for bit: "
        "first difference in step 2 (0.29999999999999999 and 0.30000000000000004)"
    )


@pytest.mark.parametrize(("other", "digits"), [(0.5001, 3), (0.51, 1), (0.9, 0), (-0.5, 0), ("nan", 0)])
def test_digits_are_those_of_the_worst_step(other: float | str, digits: int) -> None:
    assert compare_losses(lines(0.5, 0.5), lines(0.5, other)).digits == digits


def test_a_loss_that_is_no_number_equals_only_itself() -> None:
    assert compare_losses(lines(0.5, "nan"), lines(0.5, "nan")).are_equal
    assert compare_losses(lines("nan"), lines(0.5)).sentence == "other losses: first difference in step 1 (nan and 0.5)"


def test_steps_that_only_one_run_has_are_counted_and_are_no_equality() -> None:
    found = compare_losses(lines(0.7, 0.6, 0.5), [*lines(0.7, 0.6), '{"type": "train", "st'])
    assert not found.are_equal
    assert found.sentence == "same losses, bit for bit, in 2 of 3 steps; 1 only in the first run, 0 only in the second"
    assert compare_losses([], lines(0.7)).sentence == "no step to compare: the runs have no training step in common"
