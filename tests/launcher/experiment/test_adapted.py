"""What the LoRA settings beside target_modules name in a model, and the mistake for each name that it lacks."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.errors import Mistake
from launcher.experiment.adapted import adapted, of_pattern, wrong_names
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.sections.targets import Modules

LAYERS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
LLAMA = Modules(
    trained=("model.embed_tokens", *(f"model.layers.{n}.{name}" for n in range(3) for name in LAYERS), "lm_head"),
    refused=dict.fromkeys(
        [
            "model",
            "model.layers",
            "model.norm",
            *(f"model.layers.{n}{end}" for n in range(3) for end in ("", ".mlp", ".self_attn")),
        ],
        "",
    ),
    parameters=("model.norm.weight",),
)
EXPERTS = Modules(
    trained=("model.layers.0.self_attn.q_proj",),
    parameters=("model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj"),
)


def of(modules: Modules = LLAMA, **hyper: Any) -> list[str]:
    return adapted(Hyperparameters(**hyper), modules)


def wrong(modules: Modules = LLAMA, **hyper: Any) -> Mistake:
    (mistake,) = wrong_names(Hyperparameters(**hyper), modules, "org/model")
    return mistake


def test_all_linear_is_every_layer_but_the_embedding_and_the_head() -> None:
    assert of() == [name for name in LLAMA.trained if ".layers." in name]


def test_excluded_modules_other_layers_and_modules_that_are_trained_whole_get_no_adapter() -> None:
    assert of(exclude_modules=["q_proj", "layers.1.mlp.up_proj"], layers_to_transform=[1]) == [
        "model.layers.1.self_attn.o_proj",
        "model.layers.1.mlp.down_proj",
    ]
    assert of(exclude_modules=r".*\.(mlp|self_attn\.q_proj).*", layers_to_transform=2) == ["model.layers.2.self_attn.o_proj"]
    assert of(target_modules=["up_proj", "down_proj"], modules_to_save=["layers.0.mlp.down_proj"], layers_to_transform=[0]) == [
        "model.layers.0.mlp.up_proj"
    ]


def test_a_pattern_of_ranks_holds_for_the_end_of_a_name_and_the_first_one_counts() -> None:
    patterns = {"layers.1.mlp.up_proj": 4, r"(up|down)_proj": 8, "proj": 16}
    found = [of_pattern(patterns, name) for name in ("model.layers.1.mlp.up_proj", "model.layers.0.mlp.up_proj", "x.q_proj")]
    assert found == ["layers.1.mlp.up_proj", r"(up|down)_proj", None]


@pytest.mark.parametrize(
    ("hyper", "where", "what", "expected", "hint"),
    [
        ({"rank_pattern": {"q_porj": 4}}, "rank_pattern.q_porj", "'q_porj' matches no module of org/model",
         "q_proj, o_proj, up_proj, down_proj", "did you mean 'q_proj'?"),
        ({"alpha_pattern": {"wo": 4}}, "alpha_pattern.wo", "'wo' matches no module of org/model",
         "o_proj, down_proj, q_proj, up_proj", "did you mean 'o_proj'?"),
        ({"rank_pattern": {"up_proj": 4}, "target_modules": ["q_proj", "o_proj"]}, "rank_pattern.up_proj",
         "'up_proj' of org/model gets no adapter", "q_proj, o_proj", None),
        ({"exclude_modules": ["q_proj", "k_proj"]}, "exclude_modules.1", "'k_proj' matches no module of org/model",
         "q_proj, o_proj, up_proj, down_proj, lm_head, embed_tokens", "did you mean 'q_proj'?"),
        ({"exclude_modules": "mlp"}, "exclude_modules", "the pattern 'mlp' matches no module of org/model",
         "a list of names, or a pattern for whole names", None),
        ({"layers_to_transform": [0, 3]}, "layers_to_transform.1", "org/model has no layer 3", "a number from 0 to 2", None),
        ({"modules_to_save": ["head"]}, "modules_to_save.0", "'head' matches no module of org/model",
         "lm_head, embed_tokens, down_proj, q_proj, o_proj, up_proj, norm", "did you mean 'lm_head'?"),
        ({"modules_to_save": ["mlp"]}, "modules_to_save.0", "'mlp' of org/model is a block of several modules",
         "up_proj, down_proj", "name its modules"),
        ({"modules_to_save": ["down_proj"], "load_in_4bit": True}, "modules_to_save.0",
         "'down_proj' is quantised by load_in_4bit: it cannot be trained whole", "an embedding, a head or a norm", None),
        ({"target_parameters": ["mlp.up_proj.weight"]}, "target_parameters.0",
         "'mlp.up_proj.weight' of org/model belongs to a layer",
         "model.norm.weight", "write target_modules: [up_proj]"),
    ],
)  # fmt: skip
def test_a_name_that_the_model_lacks_is_answered_with_the_nearest_ones(
    hyper: dict[str, Any], where: str, what: str, expected: str, hint: str | None
) -> None:
    found = wrong(**hyper)
    assert (found.where, found.what, found.expected, found.hint) == (f"hyperparameters.{where}", what, expected, hint)


def test_a_parameter_of_experts_is_named_with_its_block() -> None:
    assert wrong_names(Hyperparameters(target_parameters=["mlp.experts.down_proj"]), EXPERTS, "org/model") == []
    found = wrong(EXPERTS, target_parameters=["experts.w2"])
    assert found.what == "'experts.w2' matches no parameter of org/model outside of its layers"
    assert found.expected == "mlp.experts.gate_up_proj, mlp.experts.down_proj"
