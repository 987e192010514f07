"""What an adapter trains, counted from the sizes of a model, against what PEFT trains."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.planning.sizes.activations import Numbers
from launcher.planning.sizes.adapter import Adapter
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.sizes.state import state, trained_weights

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
NAMES = ["q_proj", "down_proj"]
EXPERT_NAMES = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "use_rslora": ("qwen3", {"use_rslora": True}),
    "use_dora": ("qwen3", {"use_dora": True, "r": 4}),
    "init_lora_weights": ("llama", {"init_lora_weights": "gaussian"}),
    "rank_pattern": ("qwen3", {"rank_pattern": {"q_proj": 4, r"layers\.1\.mlp\.(up|gate)_proj": 2}}),
    "alpha_pattern": ("qwen3", {"alpha_pattern": {"q_proj": 4}}),
    "exclude_modules": ("qwen3", {"exclude_modules": ["k_proj", "layers.0.mlp.up_proj"]}),
    "exclude_modules by a pattern": ("llama", {"exclude_modules": r".*\.mlp\..*"}),
    "layers_to_transform": ("qwen3", {"layers_to_transform": [0, 2]}),
    "layers_to_transform of a list": ("llama", {"layers_to_transform": 1, "target_modules": NAMES}),
    "modules_to_save": ("llama", {"modules_to_save": ["embed_tokens", "norm"]}),
    "modules_to_save, a layer": ("llama", {"modules_to_save": ["down_proj"], "target_modules": ["q_proj"]}),
    "modules_to_save, every norm of the heads": ("qwen3", {"modules_to_save": ["q_norm"]}),
    "modules_to_save, tied": ("qwen3", {"modules_to_save": ["lm_head"], "tied": True}),
    "target_parameters": ("gpt_oss", {"target_parameters": EXPERT_NAMES, "rank_pattern": {"down_proj": 2}}),
    "target_parameters alone": ("qwen2_moe", {"target_modules": [], "target_parameters": EXPERT_NAMES[1:]}),
    "experts by the names of their layers": ("qwen3_moe", {"rank_pattern": {"experts.gate_up_proj": 3}}),
    "experts and DoRA beside": ("qwen3_moe", {"target_modules": NAMES[:1], "use_dora": True, "layers_to_transform": [2]}),
    "an adapted embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
}


def sizes(family: str, tied: bool) -> dict[str, Any]:
    return {**SIZES, **(EXPERTS if family in ("gpt_oss", "qwen2_moe", "qwen3_moe") else {}), "tie_word_embeddings": tied}


@pytest.mark.parametrize("name", list(CASES))
def test_the_trained_weights_are_those_of_peft(name: str) -> None:
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.inputs.models.adapter import lora_config

    family, settings = CASES[name]
    hyper = Hyperparameters(**{key: value for key, value in settings.items() if key != "tied"})
    given = AutoConfig.for_model(family, **sizes(family, settings.get("tied", False)))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(given)
        made = get_peft_model(model, lora_config(hyper, model))
    config = ModelConfig.parse(given.to_dict())
    assert trained_weights(hyper, config) == made.get_nb_trainable_parameters()[0]


def test_the_optimizer_keeps_a_state_for_copies_and_lengths_too() -> None:
    config = ModelConfig.parse({**SIZES, "model_type": "llama"})
    hyper = Hyperparameters(modules_to_save=["lm_head"], use_dora=True, target_modules=["q_proj"], r=2)
    parts = {part.name: part.size for part in state(hyper, config, Machine())[0]}
    weights = 96 * 32 + 3 * (2 * (32 + 32) + 32)
    assert (parts["adapter"], parts["gradients"], parts["optimizer"]) == (4 * weights, 4 * weights, 8 * weights)


def test_what_is_trained_is_told_with_its_ranks_and_copies() -> None:
    config = ModelConfig.parse({**SIZES, "model_type": "qwen3", "tie_word_embeddings": True})
    assert Adapter(Hyperparameters(), config).sentence == "a LoRA adapter of rank 16"
    hyper = Hyperparameters(use_dora=True, rank_pattern={"q_proj": 4}, modules_to_save=["lm_head", "norm"])
    assert Adapter(hyper, config).sentence == "a DoRA adapter of ranks 4 to 16, and embed_tokens, norm whole"


def test_activations_follow_the_share_of_the_layers_and_the_mean_rank() -> None:
    from launcher.planning.sizes.activations import kept_bytes

    config = ModelConfig.parse({**SIZES, "model_type": "llama"})
    hyper = Hyperparameters(r=6, target_modules=["q_proj", "o_proj"], layers_to_transform=[0], rank_pattern={"o_proj": 3})
    trains = Adapter(hyper, config).trains
    assert dict(trains.shares or {}) == {"q_proj": pytest.approx(1 / 3), "o_proj": pytest.approx(1 / 3)}
    assert dict(trains.ranks) == {"q_proj": 2, "o_proj": 1}
    every = Adapter(Hyperparameters(r=6), config).trains
    fewer, more = (kept_bytes(config, 64, Numbers(4, 4), one) for one in (trains, every))
    assert fewer < more
