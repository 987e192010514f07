"""Rules over blocks of steps: what a run learns, from means over hundreds of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from .blocks import PAIRS, Block, Blocks
from .facts import Facts

_SIGMAS: Final = 4.0
_LEANS: Final = -0.4  # skewness of margins that is more than that of healthy data
_GROWTH: Final = 0.2  # of a correlation


class Hit(NamedTuple):
    """A rule holds from step ``first`` to ``last``."""

    first: int
    last: int
    sentence: str


def loss_stuck(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    start, recent = facts.first_loss, blocks.last(2 * PAIRS)
    if start is None or recent is None or blocks.done < 0.25 or blocks.peak[1] >= recent.first:
        return None
    loss = recent.mean("loss")
    if loss is None or not (1 - threshold) * start < loss < 1.02 * start:
        return None
    name = "ln 2" if math.isclose(start, math.log(2)) else f"{start:.4g}"
    return Hit(
        recent.first, recent.last, f"the loss is still {loss:.4f} at step {recent.last}: {name} means that nothing is learned"
    )


def margin_flat(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    return _not_grown(blocks) or _fallen(blocks, threshold)


def _not_grown(blocks: Blocks) -> Hit | None:
    late = blocks.second_half()
    margin = None if late is None else late.mean("rewards/margins")
    if late is None or margin is None or margin > 3 * late.error("rewards/margins"):
        return None
    return Hit(late.first, late.last, f"the margin does not grow: {margin:+.3f} in steps {late.first}-{late.last}")


def _fallen(blocks: Blocks, threshold: float) -> Hit | None:
    if len(blocks.whole) < 4:
        return None
    recent = Block.pooled(blocks.whole[-2:])
    earlier = [one for one in blocks.whole[:-2] if one.mean("rewards/margins") is not None]
    best = max(earlier, key=lambda one: one.mean("rewards/margins") or 0.0, default=None)
    now, then = recent.mean("rewards/margins"), None if best is None else best.mean("rewards/margins")
    if best is None or now is None or then is None or then <= 3 * best.error("rewards/margins"):
        return None
    if then - now <= max(threshold * then, _SIGMAS * math.hypot(best.error("rewards/margins"), recent.error("rewards/margins"))):
        return None
    when = f"steps {best.first}-{best.last}"
    return Hit(
        recent.first, recent.last, f"the margin falls: {then:+.3f} in {when}, {now:+.3f} in steps {recent.first}-{recent.last}"
    )


def accuracy_low(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    late = blocks.second_half()
    share = None if late is None else late.mean("rewards/accuracies")
    if late is None or share is None or share + 2 * math.sqrt(0.25 / late.count("rewards/accuracies")) >= threshold:
        return None
    return Hit(
        late.first,
        late.last,
        f"the accuracy is {share:.2f} on the {late.pairs:,.0f} pairs of steps {late.first}-{late.last}: 0.5 is chance",
    )


def chosen_falling(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    recent = blocks.last(PAIRS)
    if recent is None:
        return None
    chosen, rejected, logp = (recent.mean(name) for name in ("rewards/chosen", "rewards/rejected", "logps/chosen"))
    if chosen is None or rejected is None or logp is None or chosen >= 0 or rejected >= 0:
        return None
    lost = -chosen / facts.beta  # in nats
    before = logp + lost
    if before >= 0 or lost <= threshold * -before:
        return None
    return Hit(
        recent.first,
        recent.last,
        f"both answers become less likely: the chosen ones fell from {before:.0f} to {logp:.0f} nats "
        f"(rewards {chosen:+.2f} chosen, {rejected:+.2f} rejected)",
    )


def reward_scale(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    recent = blocks.last(PAIRS)
    both = [] if recent is None else [(name, recent.mean(f"rewards/{name}")) for name in ("chosen", "rejected")]
    found = [(f"{name} answers", reward) for name, reward in both if reward is not None and abs(reward) > threshold]
    return None if recent is None or not found else Hit(recent.first, recent.last, far_away(found, facts.beta))


def far_away(rewards: Sequence[tuple[str, float]], beta: float) -> str:
    """What is said of the largest of the mean ``rewards``, each with whose it is."""
    whose, reward = max(rewards, key=lambda one: abs(one[1]))
    far = abs(reward) / beta
    return f"the {whose}' mean reward is {reward:+.1f}, {far:,.0f} nats from the reference (beta {beta:g})"


def flipped_labels(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    """Margins are symmetric around their mean. Mislabelled pairs have the opposite margin, and make a tail
    only on the negative side; hard pairs have small margins, and make none.
    """
    recent = blocks.last(2 * PAIRS)
    if recent is None or recent.skew is None or recent.first <= blocks.peak[1]:
        return None
    wrong, pairs, (skew, error) = recent.mean("rewards/reversed"), recent.count("rewards/reversed"), recent.skew
    if wrong is None or pairs < PAIRS or wrong <= threshold or skew > min(_LEANS, -3.5 * error):
        return None
    return Hit(
        recent.first,
        recent.last,
        f"up to {100 * wrong:.0f} % of the training pairs look mislabelled: {wrong * pairs:.0f} of {pairs:.0f} "
        f"have a clearly negative margin (skewness {skew:.2f})",
    )


def length_bias(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    third = len(blocks.whole) // 3
    if third == 0:
        return None
    early, late = Block.pooled(blocks.whole[:third]), Block.pooled(blocks.whole[-third:])
    if early.correlation is None or late.correlation is None:
        return None
    (z0, e0), (z1, e1) = early.correlation, late.correlation
    before, now = math.tanh(z0), math.tanh(z1)
    if math.tanh(z1 - 2 * e1) <= threshold or now - before <= _GROWTH or z1 - z0 <= _SIGMAS * math.hypot(e0, e1):
        return None
    what = "the margin grows with the length of the chosen answer"
    return Hit(late.first, late.last, f"{what}: correlation {before:.2f} in steps {early.first}-{early.last}, {now:.2f} now")


def gpu_idle(blocks: Blocks, facts: Facts, threshold: float) -> Hit | None:
    late = Block.pooled(blocks.whole[-2:]) if len(blocks.whole) > 2 else None  # the first one holds compilation and warm-up
    used = None if late is None else late.mean("gpu_use")
    if late is None or used is None or used >= threshold:
        return None
    return Hit(late.first, late.last, f"the GPU was busy {used:.0f} % of the time in steps {late.first}-{late.last}")


BY_BLOCKS: Final[Mapping[str, Callable[[Blocks, Facts, float], Hit | None]]] = {
    "loss_stuck": loss_stuck,
    "margin_flat": margin_flat,
    "accuracy_low": accuracy_low,
    "chosen_falling": chosen_falling,
    "reward_scale": reward_scale,
    "flipped_labels": flipped_labels,
    "length_bias": length_bias,
    "gpu_idle": gpu_idle,
}
