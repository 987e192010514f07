"""A training that starts from an adapter, on two ranks: by DDP, and by ZeRO-3, which spreads the weights that are merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from launcher.experiment.schema import Experiment
from tests.trainer.test_parallel import Started

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


@pytest.mark.parametrize(("mode", "sharing"), [("continue", "ddp"), ("merge", "zero3")])
def test_two_ranks_take_the_steps_of_one(
    tmp_path: Path, make_experiment: Make, few_pairs: Path, sft: Path, mode: str, sharing: str
) -> None:
    about = {"datasets_path": str(few_pairs), "adapter": str(sft), "adapter_mode": mode}
    runs = {}
    for name in ("one", sharing):
        runs[name] = Started(tmp_path, make_experiment(experiment=about, **BATCH), name, name)
        runs[name].start()
        assert runs[name].finish() == 0, (runs[name].run.logs / "rank-0.log").read_text()
    one, two = runs["one"], runs[sharing]
    assert len(one.losses) == 2
    assert one.losses[1] != pytest.approx(one.losses[0], abs=1e-6), "it learns"
    assert two.losses == pytest.approx(one.losses, rel=1e-5)
    expected = one.adapter()
    assert two.adapter().keys() == expected.keys()
    for name, tensor in two.adapter().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)
