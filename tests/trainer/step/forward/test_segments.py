"""Attention by segments is an operator: exact, without repeated keys, and a single node for the compiler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.step.forward.attention import by_segments
from trainer.step.forward.segments import segment_attention


def made(length: int, heads: int = 4, keys: int = 2, width: int = 8, **how: Any) -> list[torch.Tensor]:
    """Queries, keys and values as projections leave them, [1, heads, T, width]."""
    torch.manual_seed(0)
    return [torch.randn(1, length, count, width, **how).transpose(1, 2).requires_grad_() for count in (heads, keys, keys)]


SPANS = torch.tensor([0, 5, 3, 4, 12, 0, 2, 3, 17, 4, 1, 0])


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("answers", [False, True])
def test_its_gradients_are_those_of_finite_differences(answers: bool, window: int) -> None:
    tensors = made(22, dtype=torch.float64)

    def attended(*given: torch.Tensor) -> torch.Tensor:
        return segment_attention(*given, SPANS, 0.3, answers, window)[0]

    assert torch.autograd.gradcheck(attended, tensors, fast_mode=True)


def test_answers_alone_have_the_outputs_that_they_have_beside_their_prompts() -> None:
    tensors = made(22)
    of_prompts = [*range(5), *range(17, 21)]
    whole, alone = (segment_attention(*tensors, SPANS, 0.3, answers)[0] for answers in (False, True))
    assert whole[:, of_prompts].any()
    assert not alone[:, of_prompts].any()
    others = [place for place in range(22) if place not in of_prompts]
    torch.testing.assert_close(alone[:, others], whole[:, others])


def test_torch_finds_nothing_wrong_with_the_operator() -> None:
    for window in (0, 3):
        torch.library.opcheck(segment_attention, (*made(22), SPANS, 0.3, False, window))


def test_tokens_of_no_pair_have_zeros_and_give_no_gradient() -> None:
    tensors = made(30)
    out, _ = segment_attention(*tensors, SPANS, 0.3)
    out.sum().backward()
    assert not out[:, 22:].any()
    assert out[:, :22].any(-1).all()
    assert not any(tensor.grad[:, :, 22:].any() for tensor in tensors)


def test_neither_keys_nor_values_are_repeated_for_the_backward_pass() -> None:
    tensors, kept = made(22), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor):
        segment_attention(*tensors, SPANS, 0.3)
    assert sorted(map(list, kept)) == sorted([[1, 4, 22, 8], [1, 2, 22, 8], [1, 2, 22, 8], [1, 22, 4, 8], [1, 4, 22], [12]])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_under_autocast_it_computes_in_16_bits_whatever_it_is_given(kind: torch.dtype) -> None:
    module = SimpleNamespace(num_key_value_groups=2)
    query, key, value = made(22)
    with torch.autocast("cpu", kind):
        out, _ = by_segments(module, query, key, value.to(kind), SPANS.view(1, 1, 1, -1), scaling=0.3)
    exact, _ = by_segments(module, query, key, value, SPANS.view(1, 1, 1, -1), scaling=0.3)
    assert out.dtype == kind
    torch.testing.assert_close(out.float(), exact, atol=3e-2, rtol=3e-2)


def test_rows_of_other_lengths_and_numbers_of_pairs_need_no_other_graph() -> None:
    graphs = []

    def traced(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def doubled(*given: torch.Tensor) -> torch.Tensor:
        return 2 * by_segments(module, *given, scaling=0.3)[0]

    torch._dynamo.reset()
    module = torch.nn.Module()
    called = torch.compile(doubled, backend=traced, fullgraph=True, dynamic=True)
    for spans in (SPANS, SPANS[:4], SPANS[:8]):
        tensors = made(int(spans.view(-1, 4)[:, 1:].sum()))
        expected = segment_attention(*tensors, spans, 0.3)[0] * 2
        assert torch.equal(called(*tensors, spans[None, None, None].clone()), expected)
    assert len(graphs) == 1
    calls = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert [call for call in calls if "attention" in call] == ["dpo.segment_attention.default"]
