from __future__ import annotations

import statistics
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.step.batches.packing import Span
from trainer.step.loss.figures import Figures

ALONE: Any = SimpleNamespace(reduce=lambda value, reduction: value)


def line(figures: Figures, margins: list[float], longer: list[int]) -> dict[str, float]:
    """The figures of a line with these margins and differences of length."""
    add(figures, margins, longer)
    return figures.means(ALONE)


def add(figures: Figures, margins: list[float], longer: list[int]) -> None:
    count = len(margins)
    none = torch.zeros(1)
    row: Any = SimpleNamespace(
        spans=[Span(0, 1, 10 + more, 10) for more in longer], side=torch.zeros(1, dtype=torch.long), counted=(count, 1, 1)
    )
    output: Any = SimpleNamespace(entropy=none, mean_logits=none, is_top1=none)
    rewards = torch.tensor([[margin, 0.0] for margin in margins], dtype=torch.float64)
    zeros = torch.zeros(count, dtype=torch.float64)
    figures.add(row, output, torch.zeros(count, 2, dtype=torch.float64), rewards, zeros)


def test_a_line_has_the_spread_of_its_margins_and_how_they_go_with_the_lengths() -> None:
    margins, longer = [0.5, 1.0, 1.5, 4.0], [1, 5, 2, 9]
    found = line(Figures(torch.device("cpu"), 1e-3), margins, longer)
    assert found["rewards/margins_std"] == pytest.approx(statistics.pstdev(margins))
    assert found["rewards/length_correlation"] == pytest.approx(statistics.correlation(margins, longer))
    assert "rewards/reversed" not in found, "the first line has no median to compare with"
    same = line(Figures(torch.device("cpu"), 1e-3), margins, [3] * 4)
    assert "rewards/length_correlation" not in same, "equal lengths correlate with nothing"


def test_pairs_with_the_opposite_margin_are_counted_and_lean_to_one_side() -> None:
    torch.manual_seed(0)
    figures = Figures(torch.device("cpu"), 1e-3)
    for _ in range(60):  # the median is followed
        found = line(figures, (2 + 0.5 * torch.randn(64)).tolist(), [0] * 64)
    assert found["rewards/reversed"] == 0
    assert abs(found["rewards/margins_skew"]) < 1
    clean, wrong = 2 + 0.5 * torch.randn(900), -2 + 0.5 * torch.randn(100)
    for _ in range(10):  # one such line is drawn in: it could be a few strange pairs
        found = line(figures, torch.cat([clean, wrong]).tolist(), [0] * 1000)
    assert found["rewards/reversed"] == pytest.approx(0.1 * 0.977, abs=0.01), "a margin below -1"
    assert found["rewards/margins_skew"] < -1
    mark = figures.mark()
    before = line(figures, [2.0] * 8, [0] * 8)
    figures.back_to(mark)
    assert line(figures, [2.0] * 8, [0] * 8) == before, "a step that is computed again changes nothing"


def test_one_strange_pair_does_not_decide() -> None:
    torch.manual_seed(0)
    figures = Figures(torch.device("cpu"), 1e-3)
    for _ in range(60):
        line(figures, (2 + 0.5 * torch.randn(64)).tolist(), [0] * 64)
    found = line(figures, [*(2 + 0.5 * torch.randn(200)).tolist(), -500.0], [0] * 201)
    assert found["rewards/margins_std"] < 0.7
    assert found["rewards/margins_skew"] > -0.4


def test_figures_that_take_the_state_of_others_go_on_as_those_would() -> None:
    torch.manual_seed(0)
    figures = Figures(torch.device("cpu"), 1e-3)
    for _ in range(3):
        line(figures, (2 + torch.randn(8)).tolist(), [3, 1] * 4)
    resumed = Figures(torch.device("cpu"), 1e-3)
    add(figures, [1.0, 2.5], [1, 4])
    resumed.take({name: tensor.clone() for name, tensor in figures.state().items()})
    assert line(figures, [0.5, -3.0], [0, 7]) == line(resumed, [0.5, -3.0], [0, 7])
    assert line(figures, [0.5, 2.0], [2, 7]) == line(resumed, [0.5, 2.0], [2, 7]), "the median goes on"
