"""How sure a share or a mean is."""

from __future__ import annotations

import pytest

from launcher.runs.learned.intervals import Estimate, mean, share


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(80, 84, 0.8839, 0.9813), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_a_share_has_wilsons_interval(count: int, n: int, low: float, high: float) -> None:
    found = share(count, n)
    assert (found.value, found.low, found.high) == pytest.approx((count / n, low, high), abs=1e-4)


@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (4, 3.182), (7, 2.447), (11, 2.228), (31, 2.042), (1001, 1.962)])
def test_a_mean_has_students_interval(n: int, t: float) -> None:
    values = [float(i % 2) if i else 0.5 for i in range(n)]
    centre = sum(values) / n
    spread = (sum((value - centre) ** 2 for value in values) / (n - 1) / n) ** 0.5
    found = mean(values)
    assert found.value == pytest.approx(centre)
    assert found.high is not None
    assert (found.high - centre) / spread == pytest.approx(t, abs=2e-3)


def test_a_single_value_has_no_interval() -> None:
    assert mean([3.0]) == Estimate(3.0, None, None)
