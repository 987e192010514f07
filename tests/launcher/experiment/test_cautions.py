from __future__ import annotations

import math
from typing import Any

import pytest

from launcher.errors import Warned
from launcher.experiment.cautions import cautions
from launcher.experiment.schema import Experiment


def said(**hyperparameters: Any) -> tuple[str, ...]:
    return cautions(Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": hyperparameters}))


def test_discopop_with_trls_default_is_told_because_it_begins_with_the_rejected_answers() -> None:
    (found,) = said(loss_type="discopop")
    assert isinstance(found, Warned)
    assert found == (
        "loss_type discopop with discopop_tau 0.05 begins by making the rejected answers more likely (Lu et al., arXiv "
        "2406.08414); set discopop_tau above 0.103"
    )
    assert said(loss_type="discopop", discopop_tau=0.11) == ()
    assert said(loss_type=["sigmoid", "discopop"], loss_weights=[0.5, 0.5], discopop_tau=0.1) != ()
    assert said(loss_type="sigmoid") == ()


@pytest.mark.parametrize(("tau", "begins_wrong"), [(0.05, True), (0.102, True), (0.103, False), (0.5, False)])
def test_the_bound_is_where_the_slope_of_the_loss_at_a_margin_of_zero_changes_its_sign(tau: float, begins_wrong: bool) -> None:
    def loss(margin: float) -> float:
        share = 1 / (1 + math.exp(-margin / tau))
        return (1 - share) * math.log1p(math.exp(-margin)) + share * math.exp(-margin)

    assert (loss(1e-6) > loss(-1e-6)) is begins_wrong
    assert bool(said(loss_type="discopop", discopop_tau=tau)) is begins_wrong


def test_fp16_on_a_cpu_is_told_before_the_run_that_refuses_it() -> None:
    experiment = {"model_name": "m", "datasets_path": "d", "hyperparameters": {"torch_dtype": "float16"}}
    assert cautions(Experiment.parse({**experiment, "launch": {"gpus": 0}})) == (
        "torch_dtype float16 needs a GPU, and launch.gpus is 0: the run will refuse it; set torch_dtype: auto",
    )
    assert cautions(Experiment.parse({**experiment, "launch": {"gpus": 1}})) == ()
    assert cautions(Experiment.parse(experiment)) == (), "whether there is a GPU is not known"


def test_a_learning_rate_that_no_weights_survive_is_told_with_what_may_be_meant() -> None:
    (found,) = said(learning_rate=5e5)
    assert found == "learning_rate 500,000 destroys the weights within a few steps: LoRA takes 1e-6 to 1e-3; 5e-05 may be meant"
    (found,) = said(learning_rate=0.5)
    assert found == "learning_rate 0.5 destroys the weights within a few steps: LoRA takes 1e-6 to 1e-3"
    assert said(learning_rate=0.1) == ()
    assert said(learning_rate=1.0, optim="sgd") == (), "other optimizers have other scales"
