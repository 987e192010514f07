from __future__ import annotations

import inspect
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.errors import ExperimentError
from launcher.experiment.other_tools.trl_fields import trl_fields
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.optimizer import WITHOUT_ADAM, WITHOUT_DECAY, arguments_of
from launcher.runs.run_dir import RunDir
from trainer.inputs.arguments import arguments, check_optimizer, check_schedule
from trainer.inputs.models.model import Precision
from trainer.processes.ranks.machine import Device


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"warmup_ratio": 0.25}, 0.25),
        ({"warmup_steps": 5}, 5),
        ({"warmup_steps": 5, "warmup_ratio": 0.25}, 5),
        ({"warmup_steps": 0, "warmup_ratio": 0.25}, 0.25),
        ({}, 0),
    ],
)
def test_steps_of_warm_up_count_beside_a_ratio_as_in_transformers(given: dict[str, Any], steps: float, tmp_path: Path) -> None:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": given})
    device, precision = Device(cuda=False, bf16=False, rank=0, world=1), Precision(torch.float32, bf16=False, fp16=False)
    assert arguments(experiment, RunDir(tmp_path), precision, device).warmup_steps == steps


@pytest.mark.parametrize(
    "given",
    [
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"cycles": 2}},
        {"lr_scheduler_type": "cosine_with_min_lr"},
    ],
    ids=["an unknown name", "a value that the schedule needs"],
)
def test_a_schedule_that_cannot_be_made_is_named_before_the_weights_are_loaded(given: dict[str, Any], tmp_path: Path) -> None:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": given})
    device, precision = Device(cuda=False, bf16=False, rank=0, world=1), Precision(torch.float32, bf16=False, fp16=False)
    with pytest.raises(
        ExperimentError, match=f"lr_scheduler_kwargs: does not fit lr_scheduler_type: {given['lr_scheduler_type']}"
    ):
        check_schedule(arguments(experiment, RunDir(tmp_path), precision, device))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"optim": "adamw_anyprecision"}, "Please install https://github.com/pytorch/torchdistx"),
        ({"optim": "sgd", "optim_args": "momentum=much"}, "could not convert string to float: 'much'"),
    ],
)
def test_an_optimizer_that_cannot_be_made_is_named_before_the_weights_are_loaded(
    given: dict[str, Any], why: str, tmp_path: Path
) -> None:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": given})
    device, precision = Device(cuda=False, bf16=False, rank=0, world=1), Precision(torch.float32, bf16=False, fp16=False)
    with pytest.raises(ExperimentError) as caught:
        check_optimizer(arguments(experiment, RunDir(tmp_path), precision, device))
    found = f"hyperparameters.optim: cannot be used\n    found:    {given['optim']}\n    hint:     {why}"
    assert str(caught.value) == found


@pytest.mark.parametrize("optim", trl_fields()["optim"]["choices"])
def test_what_an_optimizer_reads_is_what_transformers_reads_for_it(optim: str) -> None:
    from transformers.trainer_optimizer import _OPTIMIZER_HANDLERS

    source = inspect.getsource(_OPTIMIZER_HANDLERS[optim])
    names = set(re.findall(r'optim_args(?:\.get\(|\.pop\(|\[)"(\w+)"|"(\w+)" in ctx\.optim_args', source))
    read = {name for pair in names for name in pair if name}
    for listed in re.findall(r"for key in \(([^)]*)\)", source):
        read |= set(re.findall(r'"(\w+)"', listed))
    if "bnb" in optim or "bitsandbytes" in source:  # one function for all of that package
        read = read if "ademamix" in optim else set()
    assert set(arguments_of(optim)) == read
    of_adam = any(name in source for name in ("adam_kwargs", "adam_beta1"))
    assert of_adam or any(part in optim for part in WITHOUT_ADAM)
    makes_groups = any(part in source for part in ("_setup_low_rank_optimizer", '"model": ctx.model'))
    assert makes_groups == any(part in optim for part in WITHOUT_DECAY)


@pytest.mark.parametrize(
    ("wanted", "cuda", "runs"),
    [
        (None, True, "adamw_torch_fused"),
        ("adamw_torch", True, "adamw_torch_fused"),
        ("adamw_8bit", True, "adamw_8bit"),
        ("sgd", True, "sgd"),
        (None, False, "adamw_torch"),
        ("adamw_8bit", False, "adamw_torch"),
        ("adamw_torch_fused", False, "adamw_torch_fused"),
    ],
)
def test_adamw_is_fused_on_a_gpu_and_the_plan_says_so(wanted: str | None, cuda: bool, runs: str, tmp_path: Path) -> None:
    from launcher.planning.sizes.machine import Machine
    from launcher.planning.sizes.model_config import ModelConfig
    from launcher.planning.sizes.state import state

    given = {} if wanted is None else {"optim": wanted}
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": given})
    device, precision = Device(cuda=cuda, bf16=False, rank=0, world=1), Precision(torch.float32, bf16=False, fp16=False)
    assert arguments(experiment, RunDir(tmp_path), precision, device).optim == runs
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8, "intermediate_size": 8}
    parts, _ = state(experiment.hyperparameters, ModelConfig.parse(sizes), Machine(cuda=cuda))
    why = next(part.why for part in parts if part.name == "optimizer")
    assert why == ("adamw_torch, fused" if runs == "adamw_torch_fused" and cuda else wanted or "adamw_torch")


def test_deepspeed_keeps_the_optimizer_that_it_is_given() -> None:
    """It may move the optimizer's state to main memory."""
    from launcher.planning.sizes.state import optimizer_of

    assert optimizer_of("adamw_torch", cuda=True, sharded=True) == "adamw_torch"


def test_a_checkpoint_of_the_unfused_adamw_goes_on_bit_for_bit_under_the_fused_one() -> None:
    """Its groups say which implementation they had, and its state has the same form."""

    def steps(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter, count: int) -> None:
        for _ in range(count):
            weight.grad = weight.detach().cos()
            optimizer.step()

    def made(start: torch.Tensor, **how: Any) -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
        weight = torch.nn.Parameter(start.clone())
        return weight, torch.optim.AdamW([weight], lr=1e-2, **how)

    start = torch.linspace(-2, 2, 1001)
    weight, before = made(start)
    steps(before, weight, 3)
    saved, middle = deepcopy(before.state_dict()), weight.detach().clone()
    steps(before, weight, 3)
    resumed, after = made(middle, fused=True)
    after.load_state_dict(saved)
    steps(after, resumed, 3)
    assert torch.equal(resumed, weight)


def test_lora_settings_beside_full_finetuning_are_named_once_and_only_those_that_are_set(make_experiment: Any) -> None:
    from trainer.inputs.arguments import without_effect
    from trainer.processes.ranks.machine import Device

    device = Device(cuda=False, bf16=False, rank=0, world=1)
    plain = make_experiment(full_finetuning=True)
    assert [notice for notice in without_effect(plain, device) if "full_finetuning" in notice] == []
    given = make_experiment(full_finetuning=True, use_dora=True, rank_pattern={"q_proj": 4}, r=4)
    found = [notice for notice in without_effect(given, device) if "full_finetuning" in notice]
    assert found == ["no effect with full_finetuning: r, rank_pattern, use_dora"]
