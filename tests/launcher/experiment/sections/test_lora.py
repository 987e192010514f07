"""The LoRA group of hyperparameters: PEFT's names and values, and which of them conflict."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from launcher.experiment.problems import every_problem
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters

LEAST = {"model_name": "org/model", "datasets_path": "data"}


def told(**hyper: Any) -> str:
    data = {**LEAST, "hyperparameters": hyper}
    with pytest.raises(ValidationError) as caught:
        Experiment.parse(data)
    (problem,) = every_problem(data, caught.value)
    return problem.what


def test_a_key_without_a_value_is_its_default_and_one_value_is_a_list_of_one() -> None:
    names = ("modules_to_save", "exclude_modules", "rank_pattern", "use_dora", "use_rslora", "init_lora_weights", "torch_dtype")
    empty = Hyperparameters(**dict.fromkeys((*names, "layers_to_transform", "attn_implementation", "dtype"), None))
    assert empty == Hyperparameters()
    found = Hyperparameters(layers_to_transform=3, modules_to_save="lm_head", dtype="bfloat16", attn_implementation="auto")
    assert (found.layers_to_transform, found.modules_to_save) == ((3,), ("lm_head",))
    assert (found.torch_dtype, found.attn_implementation) == ("bfloat16", None)
    assert Hyperparameters.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq"])
def test_a_start_that_changes_the_base_weights_is_refused_with_the_reason(start: str) -> None:
    assert told(init_lora_weights=start) == (
        f"init_lora_weights: {start} is not supported: it changes the base model, which would then no longer be "
        "the DPO reference; use true or gaussian"
    )


@pytest.mark.parametrize(
    ("hyper", "sentence"),
    [
        ({"init_lora_weights": False}, "init_lora_weights: false is not supported: for tests of PEFT: A and B are random, and "
         "the policy would not start at its DPO reference; use true or gaussian"),
        ({"init_lora_weights": "kaiming"}, "hyperparameters.init_lora_weights must be true or gaussian"),
        ({"rank_pattern": {"q_proj": 0}}, "hyperparameters.rank_pattern.q_proj must be at least 1"),
        ({"rank_pattern": ["q_proj"]}, "hyperparameters.rank_pattern must be a mapping"),
        ({"exclude_modules": "("},
         "hyperparameters.exclude_modules must be a valid pattern ('(': missing ), unterminated subpattern "
         "at position 0)"),
        ({"layers_to_transform": [-1]}, "hyperparameters.layers_to_transform.0 must be at least 0"),
        ({"layers_to_transform": [1], "target_modules": ".*q_proj"}, "hyperparameters.layers_to_transform needs target_modules: "
         "all-linear or a list of names; a pattern names its layers itself"),
        ({"target_modules": []}, "hyperparameters.target_modules must name at least one module, unless target_parameters is set"),
        ({"target_parameters": ["e"], "lora_dropout": 0.1},
         "hyperparameters.target_parameters cannot have dropout; remove lora_dropout"),
        ({"target_parameters": ["e"], "use_dora": True},
         "hyperparameters.target_parameters conflicts with use_dora, which needs layers"),
        ({"modules_to_save": ["q_proj"], "target_modules": ["q_proj"]},
         "hyperparameters.modules_to_save and target_modules both name q_proj; keep one"),
        ({"dtype": "bfloat16", "torch_dtype": "bfloat16"}, "hyperparameters.dtype and torch_dtype are one setting; keep one"),
        ({"dtype": "bfloat16", "load_in_16bit": True},
         "hyperparameters.torch_dtype and load_in_16bit both set the type of the weights; keep one"),
        ({"torch_dtype": "float32", "load_in_4bit": True}, "hyperparameters.torch_dtype must be auto, bfloat16 or float16 with "
         "load_in_4bit: quantised weights compute in 16 bits"),
        ({"torch_dtype": "bf16"}, "hyperparameters.torch_dtype must be one of auto, float32, bfloat16, float16"),
        ({"attn_implementation": "flash"},
         "hyperparameters.attn_implementation must be one of eager, sdpa, flex_attention, flash_attention_2, flash_attention_3"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_at_its_key(hyper: dict[str, Any], sentence: str) -> None:
    assert told(**hyper) == sentence
