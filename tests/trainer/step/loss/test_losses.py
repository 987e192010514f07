"""Every loss of single pairs against TRL's own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from launcher.experiment.other_tools.trl_fields import BATCHED
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import LOSS_TYPES
from trainer.step.loss.losses import LOSSES, Ratios, loss_of_pair, pair_losses

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trainer(
    tmp_path_factory: pytest.TempPathFactory, make_experiment: Callable[..., Experiment], make_trainer: Callable[..., Any]
) -> Any:
    """TRL's loss over a batch whose reference is given, so that the margins are anything but zero."""
    made, _, _ = make_trainer(tmp_path_factory.mktemp("losses"), make_experiment(beta=0.2), pairs=12)
    made.precompute_ref_logps = True
    return made


@pytest.fixture(scope="module")
def batch(trainer: Any) -> tuple[dict[str, Any], Ratios]:
    """A batch as TRL takes it, and what our losses take."""
    torch.manual_seed(1)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    with torch.no_grad():
        output = trainer.model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels, fused_lm_head=True
        )
    logps = output.log_probs.sum(1).view(2, -1)
    reference = logps + torch.randn_like(logps) * 8
    inputs |= {"ref_chosen_logps": reference[0], "ref_rejected_logps": reference[1]}
    tokens = inputs["completion_mask"].sum(1).view(2, -1)
    ratios = (logps - reference).double()
    return inputs, Ratios(ratios[0], ratios[1], tokens[0], tokens[1])


def test_every_loss_of_pairs_has_trls_value(trainer: Any, batch: tuple[dict[str, Any], Ratios]) -> None:
    for name in LOSSES:
        assert_equal(trainer, batch, loss_type=[name], label_smoothing=0.0 if name == "sigmoid" else 0.1)


@pytest.mark.parametrize("kind", ["forward_kl", "js_divergence", "alpha_divergence"])
def test_every_f_divergence_has_trls_value(trainer: Any, batch: tuple[dict[str, Any], Ratios], kind: str) -> None:
    inputs, ratios = batch
    small = Ratios(ratios.chosen / 8, ratios.rejected / 8, ratios.chosen_tokens, ratios.rejected_tokens)
    reference = {
        "ref_chosen_logps": inputs["ref_chosen_logps"] + (ratios.chosen * 7 / 8).float(),
        "ref_rejected_logps": inputs["ref_rejected_logps"] + (ratios.rejected * 7 / 8).float(),
    }
    divergence = {"f_divergence_type": kind, "f_alpha_divergence_coef": 0.5}
    assert_equal(trainer, (inputs | reference, small), loss_type=["hinge"], **divergence)


def test_weighted_losses_add_up_as_trls(trainer: Any, batch: tuple[dict[str, Any], Ratios]) -> None:
    assert_equal(trainer, batch, loss_type=["sigmoid", "ipo"], loss_weights=[0.7, 0.3])


def test_label_smoothing_of_sigmoid_is_conservative_dpo_on_both_paths(trainer: Any, batch: tuple[dict[str, Any], Ratios]) -> None:
    from trainer.step.loss.losses import smoothed

    inputs, ratios = batch
    logits = 0.2 * (ratios.chosen - ratios.rejected)
    expected = float((0.9 * torch.log1p((-logits).exp()) + 0.1 * torch.log1p(logits.exp())).mean())
    set_args(trainer, loss_type=["sigmoid"], label_smoothing=0.1)
    assert float(pair_losses(trainer.args, ratios).mean()) == pytest.approx(expected, rel=1e-9)
    trainer.loss_types, trainer.loss_weights = smoothed(["sigmoid"], [1.0], 0.1)
    with torch.no_grad():
        assert trainer.compute_loss(trainer.model, inputs).item() == pytest.approx(expected, rel=1e-4)


def test_at_zero_margin_the_loss_is_known(trainer: Any) -> None:
    set_args(trainer, loss_type=["sigmoid"])
    assert loss_of_pair(trainer.args, 0.0, 0.0, 9) == pytest.approx(math.log(2), rel=1e-12)
    set_args(trainer, loss_type=["aot", "hinge"], loss_weights=[0.5, 2.0])
    assert loss_of_pair(trainer.args, 0.0, 0.0, 9) == pytest.approx(0.5 * math.log(2) + 2.0, rel=1e-12)
    set_args(trainer, loss_type=["sft"])
    assert loss_of_pair(trainer.args, 0.0, 0.0, 9) is None


def assert_equal(trainer: Any, batch: tuple[dict[str, Any], Ratios], **settings: Any) -> None:
    inputs, ratios = batch
    set_args(trainer, **settings)
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, inputs).item()
    assert float(pair_losses(trainer.args, ratios).mean()) == pytest.approx(theirs, rel=1e-4), settings


def set_args(trainer: Any, **settings: Any) -> None:
    defaults = {"loss_weights": None, "label_smoothing": 0.0, "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5}
    for name, value in (defaults | settings).items():
        setattr(trainer.args, name, value)
        if name not in ("loss_type", "loss_weights"):
            setattr(trainer, name, value)
    trainer.loss_types = trainer.args.loss_type
    trainer.loss_weights = trainer.args.loss_weights or [1.0] * len(trainer.loss_types)


def test_every_loss_is_one_of_single_pairs_or_of_a_batch() -> None:
    assert set(LOSS_TYPES) == set(LOSSES) | BATCHED
    assert set(LOSSES) & BATCHED == set()
