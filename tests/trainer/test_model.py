from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError
from launcher.experiment import Experiment
from launcher.hyperparameters import Hyperparameters
from trainer.model import check_biases, choose_precision, load_model, load_tokenizer, lora_config, seed_adapter


@pytest.mark.parametrize(
    ("settings", "cuda", "bf16", "expected"),
    [
        ({}, False, False, "float32 weights, fp32 step"),
        ({"load_in_16bit": True}, False, False, "bfloat16 weights, bf16 step"),
        ({}, True, True, "bfloat16 weights, bf16 step"),
        ({}, True, False, "float16 weights, fp16 step"),
        ({"full_finetuning": True}, True, True, "float32 weights, bf16 step"),
        ({"full_finetuning": True, "load_in_16bit": True}, True, True, "bfloat16 weights, bf16 step"),
        ({"load_in_16bit": False}, True, True, "float32 weights, fp32 step"),
    ],
)
def test_precision_follows_the_device_unless_the_experiment_says_otherwise(
    settings: dict[str, Any], cuda: bool, bf16: bool, expected: str
) -> None:
    assert str(choose_precision(Hyperparameters(**settings), cuda=cuda, bf16=bf16)) == expected


def test_the_adapter_s_first_weights_come_from_random_state_alone(make_experiment: Callable[..., Experiment]) -> None:
    import torch
    from peft import get_peft_model

    def first_weights(random_state: int, seed: int) -> torch.Tensor:
        experiment = make_experiment()
        precision = choose_precision(experiment.hyperparameters, cuda=False, bf16=False)
        model = get_peft_model(
            load_model(experiment, experiment.model_name, precision, cuda=False), lora_config(experiment.hyperparameters)
        )
        seed_adapter(model, random_state, seed)
        return torch.cat([p.flatten() for n, p in model.named_parameters() if "lora_A" in n])

    assert torch.equal(first_weights(1, 42), first_weights(1, 43))
    assert not torch.equal(first_weights(1, 42), first_weights(2, 42))


def test_full_finetuning_has_no_adapter() -> None:
    assert lora_config(Hyperparameters(full_finetuning=True)) is None


def test_biases_that_the_reference_shares_are_not_trained() -> None:
    import torch

    hyper = Hyperparameters(bias="all")
    with pytest.raises(ExperimentError, match="the reference of DPO shares the model's biases"):
        check_biases(torch.nn.Linear(2, 2), hyper)
    assert check_biases(torch.nn.Linear(2, 2, bias=False), hyper) == ["bias: all has no effect: the model has no biases"]
    assert check_biases(torch.nn.Linear(2, 2), Hyperparameters(bias="all", full_finetuning=True)) == []


def test_a_model_that_is_not_there_is_named_with_what_was_found(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    experiment = make_experiment(experiment={"model_name": str(tmp_path)})
    with pytest.raises(ExperimentError, match=re.escape(f"the tokenizer of {tmp_path} cannot be loaded")):
        load_tokenizer(experiment, str(tmp_path))


@pytest.mark.gpu
def test_on_a_gpu_the_weights_are_16_bit_and_on_the_device(make_experiment: Callable[..., Experiment]) -> None:
    import torch

    experiment = make_experiment()
    precision = choose_precision(experiment.hyperparameters, cuda=True, bf16=torch.cuda.is_bf16_supported())
    model = load_model(experiment, experiment.model_name, precision, cuda=True)
    assert {p.dtype for p in model.parameters()} <= {torch.bfloat16, torch.float16}
