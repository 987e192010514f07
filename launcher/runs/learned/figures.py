"""Figures: what a run's loss, rewards and log-probabilities were before and after the training, and how to read them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ...errors import Warned

if TYPE_CHECKING:
    from typing_extensions import TypeIs

# z: no minus sign on what rounds to zero.
_ROWS: Final = (
    ("loss", "loss", "z.4f"),
    ("mean_token_accuracy", "token accuracy", ".3f"),
    ("entropy", "entropy", "z.3f"),
    ("rewards/accuracies", "accuracy", ".2f"),
    ("rewards/margins", "margin", "+z.3f"),
    ("rewards/chosen", "chosen reward", "+z.3f"),
    ("rewards/rejected", "rejected reward", "+z.3f"),
    ("logps/chosen", "chosen log-probability", "z.2f"),
    ("logps/rejected", "rejected log-probability", "z.2f"),
)
_MEANINGS: Final = (
    ("token accuracy", "share of answer tokens that the model ranks first"),
    ("entropy", "of the model's next token, in nats"),
    ("accuracy", "share of pairs whose chosen answer has the higher reward"),
    ("margin", "reward of chosen minus reward of rejected"),
    ("reward", "beta × (log-probability − the reference's); below 0: less likely than before the training"),
    ("log-probability", "of a whole answer, in nats"),
)
_NOTHING: Final = 5e-4  # a reward that is shown as 0


@dataclass(frozen=True)
class Figures:
    """Means over pairs at one or two moments, by their names in the log; ``moments`` has a word for each.

    ``intervals``: name in the log -> (low, high), the 95 % interval at the last moment.
    """

    what: str
    moments: tuple[str, ...]
    values: tuple[Mapping[str, float], ...]
    same_pairs: bool  # at both moments
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Figures | None:
        """Those on validation pairs, else those of the first and the last training steps; ``result`` is of a run's record."""
        evaluated = [(name, _plain(result[name])) for name in ("before", "after") if result.get(name)]
        if evaluated and evaluated[-1][0] == "after":
            names, values = zip(*evaluated, strict=True)
            what = "on validation pairs, which were not trained on:"
            return cls(what, names, values, same_pairs=True, intervals=_intervals(result.get("learned") or {}))
        parts = [part for part in (result.get("training") or {}).values() if part]
        if len(parts) < 2:
            return None
        names = tuple(_steps(*part["steps"]) for part in parts)
        what = "on the training pairs of these steps; no validation pairs were evaluated:"
        return cls(what, names, tuple(_plain(part) for part in parts), same_pairs=False)

    @property
    def heads(self) -> tuple[str, ...]:
        """The header of ``rows``."""
        return (*self.moments, *(["95 % interval"] if self.intervals else []))

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Label and one cell for each of ``heads``; a figure that a moment lacks has no row."""
        kept = [(name, label, spec) for name, label, spec in _ROWS if all(_is_number(part.get(name)) for part in self.values)]
        rows = [(name, spec, (label, *(format(part[name], spec) for part in self.values))) for name, label, spec in kept]
        return [(*cells, *([self._interval(name, spec)] if self.intervals else [])) for name, spec, cells in rows]

    def _interval(self, name: str, spec: str) -> str:
        between = self.intervals.get(name)
        return "" if between is None else f"{between[0]:{spec}} to {between[1]:{spec}}"

    def _highest(self, name: str, value: float) -> float:
        """What ``value`` of the last moment may be by its interval, at most."""
        return self.intervals.get(name, (value, value))[1]

    @property
    def meanings(self) -> Iterator[tuple[str, str]]:
        """A label of the rows, and what it means."""
        labels = {label for label, *_ in self.rows}
        labels |= {label.removeprefix("chosen ").removeprefix("rejected ") for label in labels}
        if "token accuracy" in labels:
            yield "loss", "−log-probability of an answer's token, mean over all of them, in nats"
        if len(self.values) > 1 and abs(self.values[0].get("loss", 0.0) - math.log(2)) < 5e-4:
            yield "loss", "ln 2 = 0.6931 means no preference"
        for label, meaning in _MEANINGS:
            if label in labels:
                is_equal = label == "accuracy" and self._starts_equal
                yield label, f"{meaning}; 0 before the training, when all rewards are equal" if is_equal else meaning

    @property
    def _starts_equal(self) -> bool:
        """Whether the policy was its reference at the first moment: no answer has the higher reward then."""
        first = [self.values[0].get(f"rewards/{name}") for name in ("chosen", "rejected")]
        return len(self.values) > 1 and all(_is_number(reward) and abs(reward) < _NOTHING for reward in first)

    @property
    def displaced(self) -> str | None:
        """A sentence where the chosen answers have become less likely, which a growing margin hides; a warning if the
        rejected answers win.
        """
        last = self.values[-1]
        reward, margin = last.get("rewards/chosen"), last.get("rewards/margins")
        if self.same_pairs and _is_number(margin) and self._highest("rewards/margins", margin) < -_NOTHING:
            return Warned(
                f"the rejected answers of these pairs win (margin {margin:+.3f}): the training teaches the opposite of them. "
                "Check which answers are chosen in the training and in the validation file."
            )
        if not _is_number(reward) or reward > -_NOTHING:
            return None
        logps = [logp for part in self.values if _is_number(logp := part.get("logps/chosen"))]
        if self.same_pairs and len(logps) == 2:
            how = f"log-probability {logps[0]:.1f} → {logps[1]:.1f}"
        else:
            how = f"reward {reward:+.3f}"
        rejected = ", the rejected answers even less" if _is_number(margin) and margin > _NOTHING else ""
        return (
            f"the chosen answers became less likely ({how}){rejected}. This is common, because DPO trains only the difference: "
            "read answers of the model before you use it (Razin et al., arXiv 2410.08847; Pal et al., arXiv 2402.13228). "
            "A lower learning_rate, a larger beta, or loss_type: [sigmoid, sft] with loss_weights: [1, 0.5] keeps chosen answers "
            "more likely."
        )


_ESTIMATED: Final = {
    "accuracy": "rewards/accuracies",
    "margin": "rewards/margins",
    "chosen": "rewards/chosen",
    "rejected": "rewards/rejected",
}


def _intervals(learned: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Those of ``learned`` in a run's result."""
    after = learned.get("after") or {}
    found = {of_log: (after[name]["low"], after[name]["high"]) for name, of_log in _ESTIMATED.items() if name in after}
    return {name: ends for name, ends in found.items() if None not in ends}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("eval_"): value for name, value in values.items()}


def _steps(first: int, last: int) -> str:
    return f"step {first}" if first == last else f"steps {first}-{last}"


def _is_number(value: object) -> TypeIs[int | float]:
    return isinstance(value, int | float) and math.isfinite(value)
