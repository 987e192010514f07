"""Layers with a sliding window see in a packed row what they see in a sequence of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainer.step.forward.test_last import SIZES
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs

PAIRS = TokenPairs.of(
    [
        TokenPair(list(range(3, 23)), [10, 11, 12, 14, 15, 9, 8], [20, 21, 5, 6], 1),
        TokenPair([], list(range(30, 45)), [6, 5, 4, 3], 2),
        TokenPair([7, 8, 9], list(range(40, 60)), list(range(20, 32)), 3),
    ]
)
HALF = {"layer_types": ["sliding_attention", "full_attention"]}
KINDS = [
    ("mistral", {}),
    ("phi3", {}),
    ("starcoder2", {}),
    ("gemma3_text", HALF),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}),
    ("cohere2", HALF),
    ("exaone4", HALF),
    ("olmo3", HALF),
]


def made(kind: str, **settings: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **settings})).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def packed_numbers(model: Any, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """[n, 2]: log-probabilities of the answers in one row; the gradient of some function of them."""
    from trl.trainer.utils import add_fused_lm_head

    from trainer.step.packed import Packed

    add_fused_lm_head(model)
    packed = Packed(model, kind)
    (row,) = packed.pack(PAIRS, 1000)
    sums, _ = packed(model, row)
    packed.remove()
    found = torch.empty_like(sums).index_copy(0, torch.tensor(row.pairs), sums)
    return found, gradient(model, found)


def alone(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of each sequence by itself, as transformers computes it."""

    def answer(prompt: list[int], ids: list[int]) -> torch.Tensor:
        first = max(len(prompt), 1)
        whole = torch.tensor([prompt + ids])
        log_probs = torch.log_softmax(model(whole, use_cache=False).logits, -1)
        return log_probs[0, first - 1 : -1].gather(1, whole[0, first:, None]).sum()

    found = torch.stack([torch.stack([answer(pair.prompt, one) for one in (pair.chosen, pair.rejected)]) for pair in PAIRS])
    return found, gradient(model, found)


def gradient(model: Any, found: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    (found * torch.tensor([1.0, -2.0])).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("attention", ["segment_attention", "sdpa"])
@pytest.mark.parametrize(("kind", "settings"), KINDS, ids=[kind for kind, _ in KINDS])
def test_a_window_hides_in_a_row_what_it_hides_in_a_sequence(kind: str, settings: dict[str, Any], attention: str) -> None:
    model = made(kind, sliding_window=6, **settings)
    expected, slope = alone(model)
    found, steepness = packed_numbers(model, attention)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)  # norms and rotations compute in float32
    assert float((steepness - slope).norm()) < 1e-4 * float(slope.norm())
    unlike, _ = alone(made(kind, **{**settings, "sliding_window": 100}))
    assert float((unlike - expected).abs().max()) > 0.01, "the window hides something"
