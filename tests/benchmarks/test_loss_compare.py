"""`make loss-compare REV`: what counts as the same training, on logs and adapters as runs leave them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from launcher.runs.run_dir import RunDir
from tests.benchmarks.loss_compare import NotTrained, checked_out, first_difference

STEPS = [
    {"type": "train", "step": 1, "loss": 0.6931471824645996, "grad_norm": 0.7, "seconds": 1.0},
    {"type": "train", "step": 2, "loss": 0.5, "grad_norm": 0.25, "seconds": 2.0},
    {"type": "eval", "step": 2, "eval_loss": 0.4, "seconds": 2.5},
    {"type": "summary", "step": 2, "train_seconds": 2.5},
]
WEIGHTS = {"layer.A": torch.tensor([[0.5, -0.0]]), "layer.B": torch.ones(2, dtype=torch.bfloat16)}


def run(folder: Path, steps: list[dict[str, Any]] = STEPS, weights: dict[str, torch.Tensor] = WEIGHTS) -> RunDir:
    made = RunDir(folder)
    made.logs.mkdir(parents=True)
    made.adapter.mkdir()
    made.steps.write_text("".join(json.dumps(step) + "\n" for step in steps))
    save_file(weights, made.adapter / "adapter_model.safetensors")
    return made


def changed(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**step, **fields} if n == number else step for n, step in enumerate(STEPS)]


@pytest.fixture
def one(tmp_path: Path) -> RunDir:
    return run(tmp_path / "one")


def test_the_same_figures_and_bytes_are_the_same_whatever_time_they_took(one: RunDir, tmp_path: Path) -> None:
    slower = [
        {**step, "seconds": 9.0, "new_figure": 1.0} | ({"train_seconds": 9.0} if step["type"] == "summary" else {})
        for step in STEPS
    ]
    assert first_difference(one, run(tmp_path / "other", slower)) is None


@pytest.mark.parametrize(
    ("steps", "difference"),
    [
        (changed(1, loss=math.nextafter(0.5, 1)), "step 2, train: loss is 0.5 and 0.5000000000000001"),
        (changed(0, grad_norm=0.8), "step 1, train: grad_norm is 0.7 and 0.8"),
        (changed(2, eval_loss=0.3), "step 2, eval: eval_loss is 0.4 and 0.3"),
        (STEPS[:1], "step 2: only the first has a line of eval"),
        ([{**STEPS[0], "loss_of_batch": 0.5}, {**STEPS[1], "loss": None}, *STEPS[2:]], "step 2, train: loss is 0.5 and None"),
        ([{"type": "train", "step": 1, "train_loss": 0.7}, *STEPS[1:]], "step 1, train: only the first has loss"),
    ],
)
def test_the_first_figure_that_differs_is_named_with_both_values(
    one: RunDir, tmp_path: Path, steps: list[dict[str, Any]], difference: str
) -> None:
    assert first_difference(one, run(tmp_path / "other", steps)) == difference


@pytest.mark.parametrize(
    ("weights", "difference"),
    [
        ({**WEIGHTS, "layer.A": torch.tensor([[0.5, 0.25]])},
         "adapter: 1 of 2 tensors differ, first layer.A (at most by 0.25)"),
        ({**WEIGHTS, "layer.A": torch.tensor([[0.5, 0.0]])},  # another sign of zero
         "adapter: 1 of 2 tensors differ, first layer.A (at most by 0.0)"),
        ({**WEIGHTS, "layer.B": torch.ones(2)}, "adapter: 1 of 2 tensors differ, first layer.B (at most by 0.0)"),
        ({"layer.A": WEIGHTS["layer.A"]}, "adapter: only the first has layer.B"),
    ],
)  # fmt: skip
def test_an_adapter_of_other_bytes_is_a_difference_where_all_figures_agree(
    one: RunDir, tmp_path: Path, weights: dict[str, torch.Tensor], difference: str
) -> None:
    assert first_difference(one, run(tmp_path / "other", weights=weights)) == difference


def test_runs_without_a_training_step_are_not_called_the_same(tmp_path: Path) -> None:
    runs = run(tmp_path / "one", STEPS[2:]), run(tmp_path / "other", STEPS[2:])
    assert first_difference(*runs) == "no training step to compare"


def test_a_revision_that_git_does_not_know_is_told_in_its_words() -> None:
    with pytest.raises(NotTrained, match="no-such-revision"), checked_out("no-such-revision"):
        pass
