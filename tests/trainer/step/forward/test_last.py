"""The last layer computes what is read of a row, and nothing that is read changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs

PAIRS = TokenPairs.of([TokenPair(list(range(3, 12)), [10, 11, 12], [20, 21], 1), TokenPair([], [9, 8, 7], [6, 5, 4, 3], 2)])
TOKENS, READ = 8 + 3 + 2 + 2 + 3, 3 + 2 + 2 + 3
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "attn_implementation": "sdpa",
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
KINDS = ("qwen3", "phi3", "gemma")


def made(kind: str, *, full: bool = False, **others: Any) -> Any:
    """A model in float64, with an adapter on all linear modules or trained as a whole."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **others)).double()
    add_fused_lm_head(base)
    if full:
        return base
    model: Any = get_peft_model(base, LoraConfig(target_modules="all-linear", init_lora_weights=False, r=4)).double()
    return model


def numbers(model: Any, attention: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the answers, and the gradient of their differences."""
    from trainer.step.packed import Packed

    packed = Packed(model, attention)
    (row,) = packed.pack(PAIRS, 100)
    sums, _ = packed(model, row)
    (sums[:, 0] - 2 * sums[:, 1]).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    packed.remove()
    model.zero_grad()
    return sums.detach(), gradient


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "all weights"])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_gradients_are_those_of_a_layer_that_computes_every_token(kind: str, full: bool) -> None:
    model = made(kind, full=full)
    found, gradient = numbers(model, "segment_attention")
    expected, slope = numbers(model, "sdpa")
    assert float(slope.norm()) > 0
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, slope)


def seen(model: Any, layer: int) -> dict[str, int]:
    """Module of a layer with an adapter -> tokens that it computes of a row."""
    from trainer.step.packed import Packed

    found: dict[str, int] = {}
    packed = Packed(model)
    (row,) = packed.pack(PAIRS, 100)
    assert (row.length, row.predicted) == (TOKENS, READ)
    for name, module in model.get_base_model().model.layers[layer].named_modules():
        if isinstance(module, nn.Linear) and "lora" not in name:
            place = name.removesuffix(".base_layer")
            module.register_forward_hook(lambda _, given, out, place=place: found.update({place: out.shape[-2]}))
    packed(model, row)
    packed.remove()
    return found


def test_of_a_prompt_the_last_layer_computes_keys_and_values_alone() -> None:
    attention = {"self_attn.q_proj": READ, "self_attn.k_proj": TOKENS, "self_attn.v_proj": TOKENS, "self_attn.o_proj": READ}
    model = made("qwen3")
    assert seen(model, 1) == {**attention, "mlp.gate_proj": READ, "mlp.up_proj": READ, "mlp.down_proj": READ}
    assert set(seen(model, 0).values()) == {TOKENS}


def test_a_fused_projection_of_queries_keys_and_values_computes_every_token() -> None:
    found = seen(made("phi3"), 1)
    assert found == {"self_attn.qkv_proj": TOKENS, "self_attn.o_proj": READ, "mlp.gate_up_proj": READ, "mlp.down_proj": READ}


def test_experts_compute_every_token_as_their_router_tells_of_each() -> None:
    from trainer.step.packed import Packed

    found: list[int] = []
    model = made("qwen3_moe", full=True, **EXPERTS).float()
    packed = Packed(model)
    model.model.layers[-1].mlp.register_forward_hook(lambda _, given, out: found.append(given[0].shape[1]))
    packed(model, packed.pack(PAIRS, 100)[0])
    assert found == [TOKENS]


def test_a_call_without_a_row_computes_every_token() -> None:
    from trainer.step.packed import Packed

    model, ids = made("qwen3"), torch.arange(3, 20)[None]
    expected = model(input_ids=ids).logits
    packed = Packed(model)
    packed(model, packed.pack(PAIRS, 100)[0])
    assert torch.equal(model(input_ids=ids).logits.argmax(-1), expected.argmax(-1))
    torch.testing.assert_close(model(input_ids=ids).logits, expected)
    with packed.removed():
        assert torch.equal(model(input_ids=ids).logits, expected)


def test_the_key_of_the_references_numbers_says_that_the_last_layer_computes_answers(
    tmp_path: Path, make_experiment: Callable[..., Any], make_trainer: Callable[..., Any]
) -> None:
    from trainer.step.choosing.choice import Choice, _key
    from trainer.step.packed import Packed

    trainer, _, precision = make_trainer(tmp_path, make_experiment(), pairs=2)
    choice, keys = Choice(Packed(trainer.model), 512, ""), set()
    for is_shorter in (choice.packed.last.is_shorter, False):
        choice.packed.last = SimpleNamespace(is_shorter=is_shorter)
        keys.add(_key(trainer, choice, precision, "these weights"))
    assert len(keys) == 2
