"""Rules over single lines of the log, each with the little that it remembers of those before."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Protocol

from .blocks import Blocks, is_number
from .facts import Facts
from .trends import Hit

_SPIKES: Final = 3  # losses: one may be a hard batch
_GRADIENTS: Final = 2
_WINDOW: Final = 50  # points, in which so many spikes lie
_POINT: Final = 16  # pairs: fewer lines than that hold together
_FIRST: Final = 10  # lines whose gradients are those of a fresh policy
_LOW: Final = 0.01  # of the peak of the learning rate
_LASTS: Final = 0.05  # of the run: a restart of the schedule is shorter
_CHUNK: Final = (10, 60.0)  # lines and seconds of a pace
_PACES: Final = 5  # in a row that are slow
# The plan counts additions and multiplications at a well-filled GPU's speed: short sequences reach a tenth of it, and starting
# kernels takes seconds a step that it does not count.
_OF_PLAN: Final = 0.2  # of the threshold: what the speed must be below, as a share of the plan's
_STARTING: Final = 10.0  # seconds of a step


class LineRule(Protocol):
    """Sees every training line once."""

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        """Whether it holds with this line."""


class NotFinite:
    """A loss that is no number, or ``patience`` + 1 gradients in a row: an fp16 step is skipped where its scale overflows."""

    def __init__(self, facts: Facts):
        self._patience, self._overflows = facts.patience, 0

    def feed(self, event: Mapping[str, Any], blocks: Blocks | None = None, threshold: float = 0.0) -> Hit | None:
        """``event["rows"]``: text that names the rows behind it."""
        step, rows = int(event["step"]), event.get("rows", "")
        if (loss := not_finite(event.get("loss"))) is not None:
            return Hit(step, step, f"loss is {loss} at step {step}{rows}")
        if event.get("grad_norm") is None:
            return None
        gradient = not_finite(event["grad_norm"])
        self._overflows = 0 if gradient is None else self._overflows + 1
        if self._overflows <= self._patience:
            return None
        return Hit(step - self._overflows + 1, step, f"grad_norm is {gradient} at step {step}{rows}")


def not_finite(value: object) -> str | None:
    """The name of a NaN or infinite value, which is text in JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str) and value.lstrip("-") in ("nan", "inf") else None


class LossSpikes:
    """Points of at least ``_POINT`` pairs whose loss is far above that of a policy that has learned nothing."""

    def __init__(self, facts: Facts):
        self._start, self._batch = facts.first_loss, facts.batch
        self._open: list[tuple[int, float]] = []  # steps and losses
        self._number, self._spikes = 0, deque[tuple[int, int]](maxlen=_SPIKES)

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        if not self._start or not is_number(loss := event.get("loss")):
            return None
        self._open.append((int(event["step"]), loss))
        if len(self._open) * self._batch < _POINT:
            return None
        (step, _), mean = self._open[-1], statistics.fmean(loss for _, loss in self._open)
        self._open, self._number = [], self._number + 1
        if mean <= threshold * self._start:
            return None
        self._spikes.append((self._number, step))
        if len(self._spikes) < _SPIKES or self._number - self._spikes[0][0] >= _WINDOW:
            return None
        nothing = f"an untrained policy has {self._start:.2f}"
        return Hit(self._spikes[0][1], step, f"the loss is {mean:.2f} at step {step}, and spikes repeatedly: {nothing}")


class GradientSpikes:
    """Gradients far above those of the first lines, whose pairs all count as much as a pair can."""

    def __init__(self, facts: Facts):
        self._first: list[tuple[int, float]] = []  # steps and norms
        self._usual = 0.0
        self._number, self._spikes = 0, deque[tuple[int, int]](maxlen=_GRADIENTS)

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        if not is_number(norm := event.get("grad_norm")):
            return None
        new = [(int(event["step"]), norm)]
        if len(self._first) < _FIRST:
            self._first += new
            if len(self._first) < _FIRST:
                return None
            new, self._usual = self._first, statistics.median(norm for _, norm in self._first)
        hits = [self._see(step, norm, threshold) for step, norm in new]
        return next((hit for hit in reversed(hits) if hit is not None), None)

    def _see(self, step: int, norm: float, threshold: float) -> Hit | None:
        self._number += 1
        if self._usual <= 0 or norm <= threshold * self._usual:
            return None
        self._spikes.append((self._number, step))
        if len(self._spikes) < _GRADIENTS or self._number - self._spikes[0][0] >= _WINDOW:
            return None
        at = f"the gradient's norm is {norm:.3g} at step {step}, and spikes repeatedly"
        usual = f"the median of the first {_FIRST} logged steps is {self._usual:.3g}"
        return Hit(self._spikes[0][1], step, f"{at}: {usual}")


class LearningRateLow:
    """The rate stays below a hundredth of its peak, long before the end."""

    def __init__(self, facts: Facts):
        self._since: int | None = None

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        rate, step, total = event.get("learning_rate"), int(event["step"]), blocks.total
        if not is_number(rate) or not total or rate >= _LOW * blocks.peak[0]:
            self._since = None
            return None
        self._since = step if self._since is None else self._since
        lasts, done = (step - self._since + 1) / total, self._since / total
        if lasts < _LASTS or done >= threshold:
            return None
        peak = f"below 1 % of its peak ({blocks.peak[0]:.2g})"
        return Hit(
            self._since,
            step,
            f"the learning rate is {peak} since step {self._since} of {total}: the remaining steps teach nothing",
        )


class Slow:
    """Five paces in a row, each of a minute at least, below a share of the best one but one, or far below the plan's."""

    def __init__(self, facts: Facts):
        self._before: tuple[int, float, float] | None = None  # step, seconds, tokens of the line before
        self._rates: list[float] = []
        self._steps: list[float] = []  # seconds of a step, by the same lines
        self._seconds, self._begin = 0.0, 0
        self._best: list[float] = []
        self._late: list[tuple[int, float]] = []
        self._planned = facts.step_seconds
        self._behind: list[tuple[int, float]] = []

    def forget(self) -> None:
        """An evaluation takes time that is not the training's."""
        self._before = None

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        step, seconds, tokens = int(event["step"]), event.get("seconds"), event.get("num_tokens")
        if not is_number(seconds) or not is_number(tokens):
            return None
        before, self._before = self._before, (step, seconds, tokens)
        if before is None or seconds <= before[1] or tokens <= before[2]:
            return None
        self._begin = self._begin or before[0]
        self._rates.append((tokens - before[2]) / (seconds - before[1]))
        self._steps.append((seconds - before[1]) / max(1, step - before[0]))
        self._seconds += seconds - before[1]
        if len(self._rates) < _CHUNK[0] or self._seconds < _CHUNK[1]:
            return None
        pace = (self._begin, statistics.median(self._rates))  # the median: a checkpoint is written in one of its lines
        took = (self._begin, statistics.median(self._steps))
        self._rates, self._steps, self._seconds, self._begin = [], [], 0.0, 0
        return self._slow(pace, step, threshold) or self._behind_plan(took, step, threshold)

    def _slow(self, pace: tuple[int, float], step: int, threshold: float) -> Hit | None:
        self._best = sorted([*self._best, pace[1]])[-2:]
        self._late = [*self._late, pace] if len(self._best) == 2 and pace[1] < threshold * self._best[0] else []
        if len(self._late) < _PACES:
            return None
        now, then = statistics.median(rate for _, rate in self._late), self._best[0]
        return Hit(
            self._late[0][0], step, f"{now:,.0f} tokens/s since step {self._late[0][0]}, after {then:,.0f} tokens/s before"
        )

    def _behind_plan(self, took: tuple[int, float], step: int, threshold: float) -> Hit | None:
        if self._planned is None or threshold <= 0:
            return None
        limit = max(self._planned / (_OF_PLAN * threshold), self._planned + _STARTING)
        self._behind = [*self._behind, took] if took[1] > limit else []
        if len(self._behind) < _PACES:
            return None
        first, now = self._behind[0][0], statistics.median(seconds for _, seconds in self._behind)
        return Hit(first, step, f"{now:,.0f} s a step since step {first}; the plan expects about {self._planned:,.1f} s")
