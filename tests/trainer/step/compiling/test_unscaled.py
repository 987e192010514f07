from __future__ import annotations

from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from trainer.step.compiling.unscaled import Unscaled


def products(function: Any, *given: torch.Tensor) -> tuple[int, int]:
    """Products in the graph of ``function`` before and after the pass, whose results are the same bit for bit."""
    traced = make_fx(function, tracing_mode="symbolic")(*given)
    counts = []
    for _ in range(2):
        counts.append(len(traced.graph.find_nodes(op="call_function", target=torch.ops.aten.mul.Tensor)))
        Unscaled()(traced.graph)
        traced.graph.lint()
        traced.recompile()
    for found, expected in zip(traced(*given), function(*given), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    return counts[0], counts[1]


def test_factors_of_one_are_dropped_and_others_stay() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.bfloat16)
    assert products(lambda x: (x * 1.0 + 2 * x, 1 * x), x) == (3, 1)
    assert products(lambda x: (x * 0.5 * 1.0,), x) == (2, 1)


def test_a_factor_that_changes_the_type_stays() -> None:
    assert products(lambda x: (x * 1.0,), torch.arange(4)) == (1, 1)
