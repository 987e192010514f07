"""A model that vLLM spreads over GPUs: among how many it can be divided, and what each of them holds; by hand for known sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.experiment.schema import Experiment
from launcher.planning.machines.gpus import Gpu
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.weights.held import Held
from launcher.planning.weights.split import possible, serve, uneven

CONFIG = ModelConfig("llama", hidden=64, inner=128, layers=2, heads=8, kv_heads=2, head_dim=8, vocab=1000, tied=True)
GIB = 2**30


def held(config: ModelConfig = CONFIG, memory: int = 4 * GIB) -> Held:
    experiment = Experiment.parse({"model_name": "m", "datasets_path": "d", "hyperparameters": {"r": 2}})
    found = Held(experiment, config, Machine(cuda=False), None, None, 1, 0)
    return found.on(Gpu("card", memory, None))


@pytest.mark.parametrize(
    ("changes", "gpus", "what"),
    [
        ({}, 3, "8 attention heads"),
        ({}, 8, None),  # keys and values of two heads are copied four times
        ({"heads": 12, "kv_heads": 4}, 6, "4 heads of keys and values"),
        ({"inner": 130}, 4, "a width of 130"),
        ({"expert_inner": 90, "experts": 4}, 4, "a width of 90"),
    ],
)
def test_a_model_is_divided_by_its_heads_and_its_widths(changes: dict[str, int], gpus: int, what: str | None) -> None:
    assert uneven(replace(CONFIG, **changes), gpus) == what


def test_the_numbers_of_gpus_among_which_a_model_can_be_divided() -> None:
    assert possible(CONFIG) == [2, 4, 8]
    assert possible(replace(CONFIG, heads=14, kv_heads=2)) == [2]
    assert possible(replace(CONFIG, heads=71, kv_heads=1)) == []


def test_each_gpu_holds_its_share_of_the_weights_and_of_the_keys_and_values() -> None:
    def sizes(gpus: int) -> dict[str, int]:
        return {part.name: part.size for part in serve(held(), gpus, length=1000).parts}

    one, two, four = sizes(1), sizes(2), sizes(4)
    assert one["1,000 tokens"] == 2 * 2 * 2 * 8 * 2 * 1000
    assert two["weights"] == one["weights"] // 2
    assert two["1,000 tokens"] == one["1,000 tokens"] // 2
    assert four["1,000 tokens"] == two["1,000 tokens"], "two heads cannot be shared by four GPUs"
    assert four["runtime"] == one["runtime"]


def test_a_model_that_one_gpu_does_not_hold_has_a_hint_at_how_many_do() -> None:
    large = replace(CONFIG, hidden=4096, inner=14336, layers=40, heads=32, kv_heads=8, head_dim=128, vocab=128_000)
    found = serve(held(large, 16 * GIB))
    assert found.fits is False
    assert found.hint == "spread it over 2 GPUs: --tensor-parallel-size 2"
    assert serve(held(large, 16 * GIB), 2).fits
    assert serve(held(replace(large, heads=31, kv_heads=31), 16 * GIB)).hint is None, "nothing divides 31 heads"
    assert serve(held(large, 80 * GIB)).hint is None
