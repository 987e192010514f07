"""A start from an adapter, and a supervised warm-up, on two ranks: by DDP and by ZeRO, which spreads the weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from launcher.experiment.schema import Experiment
from tests.trainer.forks import Forks
from tests.trainer.test_parallel import Started
from tests.trainer.trained import train_in

pytestmark = pytest.mark.slow
Make = Callable[..., Experiment]
BATCH = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 2}


@pytest.fixture(scope="module")
def sft(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapters") / "sft"
    torch.manual_seed(5)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def started(
    tmp_path_factory: pytest.TempPathFactory, make_experiment: Make, few_pairs: Path, sft: Path, forks: Forks
) -> Callable[[str, str], Started]:
    """A whole run of (kind, sharing), once each; that of one process in this one."""
    root = tmp_path_factory.mktemp("runs")

    @cache
    def run(kind: str, sharing: str) -> Started:
        about = {"method": "sft"} if kind == "sft" else {"adapter": str(sft), "adapter_mode": kind}
        experiment = make_experiment(experiment={"datasets_path": str(few_pairs), **about}, **BATCH)
        found = Started(root, experiment, sharing, f"{kind}-{sharing}", forks)
        if sharing == "one":
            train_in(root, found.run, experiment)
            return found
        found.start()
        assert found.finish() == 0, (found.run.logs / "rank-0.log").read_text()
        return found

    return run


@pytest.mark.parametrize(
    ("kind", "sharing"),
    [("continue", "ddp"), ("continue", "zero3"), ("merge", "zero3"), ("sft", "zero3")],
)
def test_two_ranks_take_the_steps_of_one(started: Callable[[str, str], Started], kind: str, sharing: str) -> None:
    one, two = started(kind, "one"), started(kind, sharing)
    assert len(one.losses) == 2
    assert one.losses[1] != pytest.approx(one.losses[0], abs=1e-6), "it learns"
    assert two.losses == pytest.approx(one.losses, rel=1e-5)
    expected = one.adapter()
    assert two.adapter().keys() == expected.keys()
    for name, tensor in two.adapter().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)
