"""What becomes of a field of TRL's is said at its line, before anything costs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from launcher.errors import ExperimentError, Warned
from launcher.experiment.other_tools.trl_fields import FIELDS, Fate, ignored, trl_fields, why_not_fast
from launcher.experiment.other_tools.trl_limits import LIMITS, beyond
from launcher.experiment.problems import problems
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.unused import without_effect


def mistakes(**settings: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Hyperparameters.model_validate(settings)
    return [(str(problem.loc[-1]), problem.what) for problem in problems(caught.value)]


def test_every_field_of_trl_is_a_key_of_ours_or_has_a_fate() -> None:
    assert set(trl_fields()) - set(Hyperparameters.model_fields) - set(FIELDS) == set()
    assert set(FIELDS) & set(Hyperparameters.model_fields) == set()
    assert [name for name, field in FIELDS.items() if field.fate is not Fate.BOTH and not field.why] == []


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"ld_alpha": 0.0}, "ld_alpha depends on the length of the other answer"),
        ({"neftune_noise_alpha": 5}, "neftune_noise_alpha scales its noise by the length of the sequence"),
        ({"router_aux_loss_coef": 0.01}, "router_aux_loss_coef adds an expert-balancing loss over the whole batch"),
        ({"disable_dropout": False}, "disable_dropout: false leaves dropout on: both answers would share the prompt's mask"),
        ({"optim": "lomo"}, "optim: lomo updates weights in the backward pass"),
        ({"optim": "galore_adamw_layerwise"}, "optim: galore_adamw_layerwise updates weights in the backward pass"),
    ],
)
def test_what_the_fast_path_cannot_honour_has_its_reason_and_conflicts_with_dpo_path_fast(
    settings: dict[str, Any], why: str
) -> None:
    assert why_not_fast(settings) == why
    assert mistakes(**settings, dpo_path="fast") == [("dpo_path", f"dpo_path must be auto or plain: {why}")]
    assert Hyperparameters.model_validate(settings).dpo_path == "auto"


def test_values_that_change_nothing_leave_the_fast_path_open() -> None:
    settings = {"neftune_noise_alpha": 0, "router_aux_loss_coef": 0.0, "use_weighting": False, "disable_dropout": True}
    assert why_not_fast(settings) is None
    assert Hyperparameters.model_validate({**settings, "dpo_path": "fast"}).dpo_path == "fast"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (
            {"train_sampling_strategy": "group_by_length"},
            "train_sampling_strategy: group_by_length is not supported: the fast path packs pairs of any length without padding; "
            "use random or sequential",
        ),
        (
            {"f_divergence_type": "chi"},
            "f_divergence_type must be one of reverse_kl, forward_kl, js_divergence, alpha_divergence",
        ),
        (
            {"debug": "underflow_overflow"},
            "debug is not supported; health.not_finite names the rows behind a loss that is not finite",
        ),
        ({"ref_model_sync_steps": 8}, "ref_model_sync_steps has no effect without sync_ref_model: true"),
        ({"discopop_tau": 0.1}, "discopop_tau has no effect without loss_type: discopop"),
        ({"f_alpha_divergence_coef": 0.1}, "f_alpha_divergence_coef has no effect without f_divergence_type: alpha_divergence"),
        ({"optim_args": "momentum=0.9"}, "optim_args has no effect without an optimizer that reads it (adamw_torch does not)"),
        ({"optim_target_modules": "all-linear"}, "optim_target_modules has no effect without a GaLore or APOLLO optimizer"),
        (
            {"sync_ref_model": True},
            "sync_ref_model needs full_finetuning: true, as the reference of an adapter is its base model",
        ),
        (
            {"f_divergence_type": "js_divergence", "loss_type": "nca_pair"},
            "f_divergence_type does not apply to loss_type nca_pair; use one of discopop, exo_pair, hinge, ipo, robust, sft, "
            "sigmoid, sigmoid_norm",
        ),
        ({"torch_compile": True}, "use compile (this project's name for torch_compile)"),
        (
            {"compile": "layers", "dpo_path": "plain"},
            "compile must be auto or off with dpo_path: plain, which does not compile its layers",
        ),
        ({"use_weighting": True, "loss_type": "aot"}, "use_weighting conflicts with loss_type aot, which sorts the pairs"),
        (
            {"use_weighting": True, "loss_type": ["sigmoid", "sft"]},
            "use_weighting conflicts with loss_type sft, which is one mean over all pairs of a batch",
        ),
        (
            {"optim_args": "momentm=0.9", "optim": "sgd"},
            "optim_args has momentm, which sgd does not read; it reads momentum, dampening, nesterov",
        ),
        (
            {"optim_args": "weight_decay=0.1", "optim": "sgd"},
            "optim_args has weight_decay, which sgd does not take from there; use weight_decay",
        ),
        ({"weight_decay": 0.1, "optim": "apollo_adamw"}, "weight_decay has no effect with optim: apollo_adamw"),
        ({"weight_decay": 0.0, "optim": "galore_adamw_8bit"}, "weight_decay is always 0.01 with optim: galore_adamw_8bit"),
        (
            {"optim_args": "momentum 0.9", "optim": "sgd"},
            "optim_args must be written name=value, name=value; found 'momentum 0.9'",
        ),
        ({"adam_beta1": 0.8, "optim": "sgd"}, "adam_beta1 has no effect with optim: sgd"),
        ({"adam_epsilon": 1e-6, "optim": "lion_32bit"}, "adam_epsilon has no effect with optim: lion_32bit"),
        (
            {"warmup_ratio": 0.1, "optim": "schedule_free_adamw"},
            "warmup_ratio is no share of the steps with optim: schedule_free_adamw; use warmup_steps",
        ),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "no"},
            "lr_scheduler_type needs evaluations; remove eval_strategy: no",
        ),
    ],
)
def test_a_value_that_would_do_nothing_or_fail_late_is_refused_at_its_line(settings: dict[str, Any], what: str) -> None:
    assert mistakes(**settings) == [(next(iter(settings)), what)]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"max_grad_norm": -1}, "max_grad_norm must be at least 0"),
        ({"adam_beta1": 1.5}, "adam_beta1 must be less than 1"),
        ({"ld_alpha": 2}, "ld_alpha must be at most 1"),
        ({"discopop_tau": 0, "loss_type": "discopop"}, "discopop_tau must be greater than 0"),
        ({"torch_empty_cache_steps": 0}, "torch_empty_cache_steps must be at least 1"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be at least 1"),
        ({"warmup_steps": 2.5}, "warmup_steps must be a whole number, or less than 1 for a share of the steps"),
        ({"loss_weights": [-1]}, "loss_weights must be a list of numbers of at least 0, not all of them 0"),
        ({"loss_weights": [0]}, "loss_weights must be a list of numbers of at least 0, not all of them 0"),
        ({"loss_weights": ["a"]}, "loss_weights must be a list of numbers of at least 0, not all of them 0"),
    ],
)
def test_a_number_beyond_its_limits_is_refused_at_its_line(settings: dict[str, Any], what: str) -> None:
    assert mistakes(**settings) == [(next(iter(settings)), what)]


def test_limits_are_of_fields_that_trl_has_and_leave_their_defaults_and_usual_values_alone() -> None:
    assert set(LIMITS) - set(trl_fields()) == set()
    assert [name for name in trl_fields() if beyond(name, trl_fields()[name]["default"]) is not None] == []
    usual = {"warmup_steps": 0.1, "max_grad_norm": 0, "pad_to_multiple_of": "auto", "ld_alpha": None, "loss_weights": [1, 0.5]}
    assert [name for name, value in usual.items() if beyond(name, value) is not None] == []


def test_what_another_setting_leaves_without_effect_is_a_warning() -> None:
    settings = {
        "warmup_ratio": 0.1,
        "lr_scheduler_type": "constant",
        "save_strategy": "epoch",
        "save_steps": 20,
        "logging_strategy": "epoch",
        "logging_steps": 5,
        "metric_for_best_model": "loss",
        "early_stopping_threshold": 0.1,
    }
    said = without_effect({"hyperparameters": settings})
    assert said == (
        "warmup_ratio has no effect with lr_scheduler_type: constant; use constant_with_warmup",
        "save_steps has no effect with save_strategy: epoch",
        "logging_steps has no effect with logging_strategy: epoch",
        "metric_for_best_model has no effect without load_best_model_at_end, early_stopping_patience or save_strategy: best",
        "early_stopping_threshold has no effect without early_stopping_patience",
    )
    assert all(isinstance(one, Warned) for one in said)
    used = {"early_stopping_patience": 2, "metric_for_best_model": "loss", "early_stopping_threshold": 0.1, "save_steps": 20}
    assert without_effect({"hyperparameters": {**used, "warmup_steps": 3, "logging_steps": 5}}) == ()
    assert without_effect({"hyperparameters": {"save_strategy": "best", "save_steps": 20}}) == (), "evaluations follow it"


def test_a_field_without_effect_is_accepted_and_said_once() -> None:
    settings = {"dataloader_num_workers": 4, "dataloader_pin_memory": False, "adam_beta1": 0.8}
    said = without_effect({"hyperparameters": settings})
    assert said == (
        "dataloader_num_workers has no effect: the pairs are token ids in memory",
        "dataloader_pin_memory has no effect: the pairs are token ids in memory",
    )
    assert all(isinstance(one, Warned) for one in said)
    assert ignored({"per_device_eval_batch_size": 4}, Fate.BATCHES) == [
        "per_device_eval_batch_size has no effect on the fast path: validation pairs are packed into rows, too"
    ]


def test_what_dataloader_drop_last_leaves_out_is_counted_and_it_must_leave_something() -> None:
    h = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "dataloader_drop_last": True}
    experiment = Experiment.parse({"model_name": "org/model", "datasets_path": "data", "hyperparameters": h})
    assert (experiment.kept(9, world=1), experiment.steps(9, world=1)) == (8, 2)
    assert (experiment.kept(9, world=2), experiment.steps(9, world=2)) == (8, 2)
    assert experiment.kept(9, world=1, micro=1) == 9, "a smaller micro-batch leaves out less"
    with pytest.raises(ExperimentError, match="dataloader_drop_last: leaves no pair to train on"):
        experiment.check_kept(3, world=2)
