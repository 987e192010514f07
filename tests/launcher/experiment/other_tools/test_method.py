"""An experiment's method: what sft leaves out, its own defaults, and what other tools' methods are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.files import load
from launcher.experiment.other_tools.method import refused
from launcher.experiment.schema import Experiment

DPO_ONLY: dict[str, Any] = {
    "beta": 0.3,
    "loss_type": ["sigmoid", "sft"],
    "loss_weights": [1, 0.5],
    "label_smoothing": 0.1,
    "ld_alpha": 0.5,
}


def experiment(method: str = "sft", **hyper: Any) -> Experiment:
    return Experiment.parse({"model_name": "m", "datasets_path": "d", "method": method, "hyperparameters": hyper})


def test_an_experiment_without_a_method_is_dpo() -> None:
    assert Experiment.parse({"model_name": "m", "datasets_path": "d"}).method == "dpo"


def test_settings_of_dpo_are_left_out_of_sft_and_stay_where_the_method_is_dpo() -> None:
    h = experiment(**DPO_ONLY, adam_beta1=0.8).hyperparameters
    assert (h.beta, h.loss_type, h.label_smoothing, dict(h.trl)) == (0.1, ("sigmoid",), 0, {"adam_beta1": 0.8})
    assert not h.model_fields_set & {"beta", "loss_type", "label_smoothing"}
    assert experiment("dpo", **DPO_ONLY).hyperparameters.beta == 0.3


@pytest.mark.parametrize(
    ("method", "hyper", "rate"),
    [
        ("dpo", {}, 5e-6),
        ("sft", {}, 2e-4),
        ("sft", {"full_finetuning": True}, 2e-5),
        ("sft", {"learning_rate": 5e-6}, 5e-6),
    ],
)
def test_the_learning_rate_follows_the_method_where_none_is_set(method: str, hyper: dict[str, Any], rate: float) -> None:
    found = experiment(method, **hyper)
    assert found.hyperparameters.learning_rate == rate
    assert ("learning_rate" in found.hyperparameters.model_fields_set) == ("learning_rate" in hyper)
    again = Experiment.model_validate_json(found.model_dump_json())  # as the trainer reads it
    assert again.hyperparameters == found.hyperparameters


def test_dropout_of_an_adapter_works_in_sft_unless_it_is_disabled() -> None:
    assert experiment(lora_dropout=0.1).hyperparameters.trl["disable_dropout"] is False
    assert experiment(lora_dropout=0.1, disable_dropout=True).hyperparameters.trl["disable_dropout"] is True
    assert "disable_dropout" not in experiment().hyperparameters.trl
    assert "disable_dropout" not in experiment("dpo", lora_dropout=0.1).hyperparameters.trl


FILE = """\
conf: &conf {beta: 0.2, loss_type: ipo, max_steps: 3}
exp_sft:
  experiment_id: 1
  method: sft
  model_name: m
  datasets_path: d
  hyperparameters: *conf
exp_grpo:
  experiment_id: 2
  method: grpo
  model_name: m
  datasets_path: d
"""


def test_settings_without_effect_are_named_once(tmp_path: Path) -> None:
    (tmp_path / "e.yml").write_text(FILE)
    assert load("exp_sft", file=tmp_path / "e.yml").notices == ("no effect with method: sft: beta, loss_type",)


def test_another_method_is_refused_in_a_line_that_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "e.yml").write_text(FILE)
    with pytest.raises(ExperimentError) as caught:
        load("exp_grpo", file=tmp_path / "e.yml")
    assert "grpo learns from a reward function; dpo-launcher trains on preferences: use dpo" in str(caught.value)
    with pytest.raises(ValueError, match="kto learns from single answers that are marked good or bad; dpo-launcher trains"):
        experiment("kto")
    with pytest.raises(ValueError, match="'dpo' or 'sft'"):
        experiment("sfd")


@pytest.mark.parametrize("name", ["grpo", "kto", "orpo", "ppo", "simpo", "cpo", "bco", "rloo", "reward", "gkd", "online_dpo"])
def test_each_known_method_has_its_sentence(name: str) -> None:
    assert (refused(name) or "").startswith(f"{name} ")
    assert (refused(name.upper()) or "").endswith("; dpo-launcher trains on preferences: use dpo")


def test_dpo_sft_and_unknown_names_have_none() -> None:
    assert [refused(name) for name in ("dpo", "sft", "sfd")] == [None] * 3


def test_a_warm_up_continues_an_adapter_whatever_dpo_alone_would_read() -> None:
    about = {"model_name": "m", "datasets_path": "d", "adapter": "me/sft", "hyperparameters": {"ld_alpha": 0.5}}
    assert Experiment.parse({**about, "method": "sft"}).adapter_mode == "continue"
    with pytest.raises(ValueError, match="ld_alpha needs the reference in every step"):
        Experiment.parse(about)
