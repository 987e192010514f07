"""Intervals: how far a share or a mean over a sample of pairs may be from that of all pairs like them. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

_Z: Final = statistics.NormalDist().inv_cdf(0.975)
_T: Final = (12.706, 4.303, 3.182, 2.776, 2.571)  # Student's t at 97.5 % for 1 to 5 degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample and its 95 % interval; None if the sample is too small for one."""

    value: float
    low: float | None
    high: float | None

    def json(self) -> dict[str, float | None]:
        return asdict(self)


def share(count: int, n: int) -> Estimate:
    """``count`` of ``n`` > 0 with Wilson's score interval (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1)."""
    p, weight = count / n, _Z * _Z / n
    centre = (p + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(p * (1 - p) / n + weight / (4 * n))
    return Estimate(p, 0.0 if count == 0 else centre - half, 1.0 if count == n else centre + half)


def mean(values: Sequence[float]) -> Estimate:
    """The mean of ``values``, at least one, with Student's t interval; no interval for a single value."""
    n, middle = len(values), statistics.fmean(values)
    if n == 1:
        return Estimate(middle, None, None)
    half = _t(n - 1) * statistics.stdev(values, middle) / math.sqrt(n)
    return Estimate(middle, middle - half, middle + half)


def _t(freedom: int) -> float:
    """Student's t at 97.5 %, above the table by Abramowitz and Stegun 26.7.5: off by less than 1e-3."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z, n = _Z, freedom
    first, second = (z**3 + z) / (4 * n), (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    return z + first + second + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
