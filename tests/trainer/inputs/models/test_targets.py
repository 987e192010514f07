"""Which modules get an adapter, on models that have shapes and no numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from launcher.errors import ExperimentError, Warned
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.sections.targets import UNTRAINED

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
GROUPED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
MAMBA2 = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "qwen3_moe": EXPERTS,
    "deepseek_v3": {**EXPERTS, **GROUPED, **LATENT, "num_key_value_heads": 4},
    "mamba2": MAMBA2,
    "longcat_flash": {"num_layers": 1, "n_routed_experts": 4, "zero_expert_num": 1, "moe_topk": 2, **LATENT},
    **dict.fromkeys(("mixtral", "gpt_oss", "qwen2_moe", "granitemoe"), EXPERTS),
}


def skeleton(family: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {**SMALL, **FAMILIES.get(family, {})}
    if family in ("bamba", "falcon_h1", "jamba", "nemotron_h", "zamba2", "granitemoehybrid"):
        settings = {"num_hidden_layers": settings["num_hidden_layers"]} if family in ("bamba", "falcon_h1") else {}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))


def covered(family: str, **hyper: Any) -> Any:
    """What a run would say of its adapter."""
    from peft import get_peft_model

    from trainer.inputs.models.adapter import lora_config
    from trainer.inputs.models.targets import Wanted, check_targets, try_adapter

    settings = Hyperparameters(**hyper)
    check_targets(skeleton(family), settings, "org/model")
    try_adapter(skeleton(family), settings, "org/model")
    model = skeleton(family)
    wanted = Wanted.of(model, settings)
    return wanted.covered(get_peft_model(model, lora_config(settings, model), low_cpu_mem_usage=True))


def refused(family: str, **hyper: Any) -> str:
    with pytest.raises(ExperimentError) as caught:
        covered(family, **hyper)
    return str(caught.value)


def warnings(notices: Sequence[str]) -> list[str]:
    assert all(isinstance(notice, Warned) for notice in notices)
    return list(notices)


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        ("llama", "adapter on q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj (2 each); none on lm_head"),
        ("gpt2", "adapter on c_attn, c_fc (2 each), c_proj (4); none on lm_head"),
        (
            "qwen3_moe",
            "adapter on q_proj, k_proj, v_proj, o_proj, experts.gate_up_proj, experts.down_proj, router gate (2 each); "
            "none on lm_head",
        ),
    ],
)
def test_all_linear_reaches_every_layer_but_the_head(family: str, sentence: str) -> None:
    found = covered(family)
    assert (found.sentence, found.notices) == (sentence, ())


def test_layers_exclusions_and_whole_modules_are_told_with_what_they_leave_out() -> None:
    found = covered("llama", layers_to_transform=[1], exclude_modules=["mlp.up_proj"], modules_to_save=["lm_head", "norm"])
    assert found.sentence == (
        "adapter on q_proj, k_proj, v_proj, o_proj, gate_proj, down_proj (1 each); trained whole: lm_head, norm; none on "
        "q_proj (1 of 2), k_proj (1 of 2), v_proj (1 of 2), o_proj (1 of 2), gate_proj (1 of 2), up_proj, down_proj (1 of 2)"
    )
    assert found.notices == ()
    assert found.json()["whole"] == ["lm_head", "norm"]


def test_experts_that_target_parameters_names_are_no_warning() -> None:
    found = covered("gpt_oss", target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])
    assert {"experts.gate_up_proj": 2, "experts.down_proj": 2}.items() <= found.json()["on"].items()
    assert found.notices == ()


def test_a_name_in_another_setting_that_the_model_lacks_is_told_at_its_key() -> None:
    assert refused("llama", rank_pattern={"q_porj": 4}).splitlines()[0] == (
        "hyperparameters.rank_pattern.q_porj: 'q_porj' matches no module of org/model"
    )
    assert refused("gpt_oss", target_parameters=["experts.w1"]).splitlines()[:2] == [
        "hyperparameters.target_parameters.0: 'experts.w1' matches no parameter of org/model outside of its layers",
        "    expected: mlp.router.weight, mlp.experts.gate_up_proj, mlp.experts.gate_up_proj_bias, mlp.experts.down_proj, "
        "mlp.experts.down_proj_bias",
    ]
    assert covered("qwen3_moe", rank_pattern={"experts.gate_up_proj": 4}).notices == ()
    assert "'experts.gate_proj' of org/model gets no adapter" in refused("qwen3_moe", rank_pattern={"experts.gate_proj": 4})
    assert refused("llama", layers_to_transform=[2]).startswith(
        "hyperparameters.layers_to_transform.0: org/model has no layer 2\n"
    )


def test_names_are_counted_with_what_they_leave_out() -> None:
    found = covered("llama", target_modules=["q_proj", "layers.1.mlp.up_proj"])
    assert found.sentence == (
        "adapter on q_proj (2), up_proj (1); none on k_proj, v_proj, o_proj, gate_proj, up_proj (1 of 2), down_proj, lm_head"
    )
    assert found.json() == {
        "on": {"q_proj": 2, "up_proj": 1},
        "none_on": {"k_proj": 2, "v_proj": 2, "o_proj": 2, "gate_proj": 2, "up_proj": 1, "down_proj": 2, "lm_head": 1},
    }
    assert found.notices == ()


@pytest.mark.parametrize("family", ["gpt_oss", "qwen2_moe", "granitemoe"])
def test_experts_that_peft_does_not_reach_are_a_warning_with_their_share(family: str) -> None:
    found, model = covered(family), skeleton(family)
    assert {"experts.gate_up_proj": 2, "experts.down_proj": 2}.items() <= found.json()["none_on"].items()
    experts = sum(
        p.numel() for name, p in model.named_parameters() if "experts." in name and name.endswith("_proj") and p.ndim == 3
    )
    assert warnings(found.notices) == [
        "no adapter on the experts (experts.gate_up_proj, experts.down_proj): "
        f"{experts / sum(p.numel() for p in model.parameters()):.1%} of the weights stay frozen; "
        f"PEFT's all-linear does not reach them in {family}"
    ]


def test_dense_and_shared_layers_beside_experts_are_told() -> None:
    (text,) = warnings(covered("deepseek_v3").notices)
    assert text.startswith("no adapter on gate_proj, up_proj, down_proj (2 each): ")
    assert text.endswith(" of the weights stay frozen; in deepseek_v3 PEFT takes these names for the experts alone")


def test_experts_have_no_dropout_and_are_named_in_pairs() -> None:
    assert refused("qwen3_moe", lora_dropout=0.05) == (
        "hyperparameters.lora_dropout: org/model holds its experts as parameters (down_proj, gate, gate_up_proj), "
        "and their adapter cannot have dropout\n"
        "    expected: 0, or target_modules without the experts\n"
        "    found:    0.05"
    )
    assert covered("qwen3_moe", lora_dropout=0.05, target_modules=["q_proj"]).notices == ()
    assert refused("mixtral", target_modules=["q_proj", "w1"]) == (
        "hyperparameters.target_modules.1: 'w1' of org/model cannot be trained without w3\n"
        "    expected: w1, w3 together\n"
        "    found:    one tensor of the experts holds them"
    )
    assert refused("mixtral", target_modules=r".*\.w1").startswith(
        "hyperparameters.target_modules: PEFT makes no adapter for these modules: Cannot convert PEFT target(s) w1 "
    )
    assert covered("mixtral", target_modules=["w1", "w3", "w2"]).json()["on"] == {
        "experts.gate_up_proj": 2,
        "experts.down_proj": 2,
    }


def test_a_pattern_for_one_layer_trains_that_layer_also_beside_experts() -> None:
    found = covered("qwen3_moe", target_modules=r".*layers\.0\..*(q_proj|down_proj)")
    assert found.json()["on"] == {"q_proj": 1, "experts.down_proj": 2}
    assert warnings(found.notices) == [
        "adapter also on experts.down_proj (1): in qwen3_moe PEFT adapts the experts of all layers together"
    ]


@pytest.mark.parametrize(
    ("family", "left"),
    [
        ("mamba", "x_proj, dt_proj, out_proj"),
        ("falcon_mamba", "x_proj, dt_proj, out_proj"),
        ("mamba2", "out_proj"),
        ("bamba", "out_proj"),
        ("falcon_h1", "out_proj"),
        ("longcat_flash", "classifier"),
    ],
)
def test_all_linear_leaves_out_layers_whose_adapter_would_have_no_effect(family: str, left: str) -> None:
    found = covered(family)
    told = [text for text in warnings(found.notices) if "directly" in text]
    assert len(told) == 1
    assert told[0].startswith(f"no adapter on {left}: ")
    assert told[0].endswith(f" of the weights stay frozen; {family} uses these weights directly, without an adapter")
    assert not set(left.split(", ")) & set(found.json()["on"])


def test_an_adapter_on_the_head_which_the_loss_would_leave_out_is_refused_before_the_weights_are_loaded() -> None:
    assert refused("llama", target_modules=["q_proj", "lm_head"]) == (
        "hyperparameters.target_modules: an adapter on lm_head would not be trained: "
        "the loss multiplies with the weight of the head\n"
        "    expected: target_modules without lm_head; modules_to_save: [lm_head] trains it whole"
    )


def test_a_layer_that_no_adapter_can_train_is_refused_by_name_and_an_unsure_one_is_a_warning() -> None:
    text = refused("mamba", target_modules=["in_proj", "out_proj", "dt_proj", "conv1d"])
    for number, name in ((1, "out_proj"), (2, "dt_proj"), (3, "conv1d")):
        assert f"hyperparameters.target_modules.{number}: {name!r} of org/model cannot be trained" in text
    assert warnings(covered("mamba", target_modules=["in_proj", "x_proj"]).notices) == [
        "the adapter on x_proj has no effect where mamba uses a fused kernel"
    ]


def test_the_launcher_knows_which_layers_peft_refuses() -> None:
    from peft import LoraConfig
    from peft.tuners import tuners_utils

    for name in ("out_proj", "conv1d"):
        for family in UNTRAINED[name]:
            model = type("M", (), {"config": type("C", (), {"model_type": family})()})()
            with pytest.raises(ValueError, match="incompatible"):
                tuners_utils._check_lora_target_modules_mamba(LoraConfig(), model, name)


def test_the_launcher_knows_which_families_transformers_renames() -> None:
    from trainer.inputs.models.renamed import FILE, installed_renames

    assert json.loads(FILE.read_text()) == installed_renames(), "rewrite it with: make trl-fields"


def test_full_finetuning_needs_no_targets() -> None:
    from trainer.inputs.models.targets import check_targets, try_adapter

    hyper = Hyperparameters(full_finetuning=True, target_modules=["none_such"])
    check_targets(skeleton("llama"), hyper, "org/model")
    try_adapter(skeleton("llama"), hyper, "org/model")
