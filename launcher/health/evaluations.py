"""Rules over evaluations: the validation pairs, which are the same each time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from .blocks import PAIRS, Blocks, is_number
from .facts import Facts
from .trends import Hit, far_away

_APART: Final = 0.1  # of the training's margin that the validation's must be below 0


class Overfitting:
    """The validation loss is above its best by a share in two evaluations in a row, and the training's is lower."""

    def __init__(self, facts: Facts):
        self._best: tuple[float, int] | None = None
        self._since: int | None = None

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        step, loss, recent = int(event["step"]), event.get("eval_loss"), blocks.last(PAIRS)
        if not is_number(loss):
            return None
        if self._best is None or loss < self._best[0]:
            self._best, self._since = (loss, step), None
            return None
        trained = None if recent is None else recent.mean("loss")
        if loss <= (1 + threshold) * self._best[0] or trained is None or trained >= loss:
            self._since = None
            return None
        if self._since is None:
            self._since = step
            return None
        rise = f"the validation loss rises: {self._best[0]:.4f} at step {self._best[1]}, {loss:.4f} at step {step}"
        return Hit(self._since, step, f"{rise}, while the training's is {trained:.4f}")


class Swapped:
    """The validation pairs' margin becomes clearly negative while that of the training pairs grows."""

    def __init__(self, facts: Facts):
        pass

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        share, margin = event.get("eval_rewards/accuracies"), event.get("eval_rewards/margins")
        recent = blocks.last(PAIRS)
        trained = None if recent is None else recent.mean("rewards/margins")
        if recent is None or trained is None or not is_number(share) or not is_number(margin):
            return None
        if trained <= 3 * recent.error("rewards/margins") or margin >= -_APART * trained or share >= threshold - 0.1:
            return None
        mine, step = recent.mean("rewards/accuracies") or math.nan, int(event["step"])
        return Hit(
            step,
            step,
            f"validation pairs prefer the rejected answer (accuracy {share:.2f}), training pairs the chosen one ({mine:.2f}): "
            "chosen and rejected are swapped in one of the two files",
        )


class RewardScale:
    """The mean reward of validation answers is too large for beta: known after a few steps, when there is no trend yet."""

    def __init__(self, facts: Facts):
        self._beta = facts.beta

    def feed(self, event: Mapping[str, Any], blocks: Blocks, threshold: float) -> Hit | None:
        rewards = [(f"{name} validation answers", event.get(f"eval_rewards/{name}")) for name in ("chosen", "rejected")]
        found = [(whose, reward) for whose, reward in rewards if is_number(reward) and abs(reward) > threshold]
        step = int(event["step"])
        return Hit(step, step, far_away(found, self._beta)) if found else None
