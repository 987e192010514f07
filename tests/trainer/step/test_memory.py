"""What is kept for the backward pass, and what fits."""

from __future__ import annotations

from typing import Any

import pytest

GIB = 2**30


@pytest.fixture(scope="module")
def config() -> Any:
    """Qwen3-0.6B's sizes."""
    from transformers import Qwen3Config

    return Qwen3Config(
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    )


def test_what_is_kept_grows_with_the_tokens_and_with_the_width_of_a_number(config: Any) -> None:
    from trainer.step.memory import activation_bytes

    one, wide = activation_bytes(config, 1000, 2), activation_bytes(config, 1000, 4)
    assert one is not None
    assert wide is not None
    assert activation_bytes(config, 2000, 2) == 2 * one
    assert one < wide < 2 * one  # norms compute in fp32 whatever the rest does


@pytest.mark.parametrize(("free", "recomputes"), [(80 * GIB, False), (16 * GIB, True)])
def test_the_same_batch_is_kept_on_a_large_card_and_recomputed_on_a_small_one(config: Any, free: int, recomputes: bool) -> None:
    from trainer.step.memory import must_recompute

    found, sentence = must_recompute(config, tokens=8000, bytes_per_number=2, trained=10_000_000, free=free)
    assert found is recomputes
    assert sentence.startswith(
        f"gradient checkpointing {'on' if recomputes else 'off'}: without it a micro-batch needs about 13."
    )


def test_all_weights_trained_need_room_for_their_gradients_and_moments(config: Any) -> None:
    from trainer.step.memory import must_recompute

    assert not must_recompute(config, tokens=1000, bytes_per_number=2, trained=0, free=8 * GIB)[0]
    assert must_recompute(config, tokens=1000, bytes_per_number=2, trained=600_000_000, free=8 * GIB)[0]


def test_weights_that_come_to_the_gpu_later_take_room_there(config: Any) -> None:
    from trainer.step.memory import activation_bytes, must_recompute

    kept = activation_bytes(config, 1000, 2)
    assert kept is not None
    free = int(kept / 0.8) + GIB  # room for the activations and 1 GiB, and the weights are 1.1
    assert must_recompute(config, tokens=1000, bytes_per_number=2, trained=0, free=free)[0]
    assert not must_recompute(config, tokens=1000, bytes_per_number=2, trained=0, free=free + GIB)[0]


def test_quantised_weights_are_on_the_gpu_already() -> None:
    from transformers import Qwen3Config

    from trainer.step.memory import must_recompute

    config = Qwen3Config(num_hidden_layers=2)
    free = 3 * GIB
    assert must_recompute(config, tokens=100, bytes_per_number=2, trained=0, free=free)[0]
    config.quantization_config = {"load_in_4bit": True}
    assert not must_recompute(config, tokens=100, bytes_per_number=2, trained=0, free=free)[0]


def test_a_model_whose_sizes_are_not_known_recomputes() -> None:
    from transformers import PretrainedConfig

    from trainer.step.memory import must_recompute

    assert must_recompute(PretrainedConfig(), tokens=1, bytes_per_number=2, trained=0, free=80 * GIB)[0]
