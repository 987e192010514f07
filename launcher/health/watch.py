"""Watch: all rules over one run, line by line; what a line costs does not grow with the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .answers import BY_ANSWERS, Answered
from .blocks import Blocks
from .data import BY_DATA
from .evaluations import Overfitting, RewardScale, Swapped
from .facts import Facts
from .finding import Finding
from .lines import GradientSpikes, LearningRateLow, LineRule, LossSpikes, NotFinite, Slow
from .rules import RULES
from .trends import BY_BLOCKS, Hit

# A rule that explains others: they are not reported beside it.
_EXPLAINS: Final = {
    "loss_stuck": ("margin_flat", "accuracy_low"),
    "swapped_columns": ("overfitting",),
    "degenerate_answers": ("longer_answers",),
}


class Watch:
    """``found``: the findings so far, by their rules; a later line that shows one again moves its last step."""

    def __init__(self, settings: Mapping[str, Any], facts: Facts):
        """``settings``: rule -> an action, or {"action": …, "threshold": …}; a rule or key that is missing has its default."""
        self.found: dict[str, Finding] = {}
        self._facts, self._blocks = facts, Blocks(facts.batch)
        given = {name: _pair(settings.get(name)) for name in RULES}
        self._actions = {name: given[name][0] or rule.action for name, rule in RULES.items()}
        self._thresholds = {name: rule.threshold if given[name][1] is None else given[name][1] for name, rule in RULES.items()}
        self._slow = Slow(facts)
        self._lines: dict[str, LineRule] = {
            "not_finite": NotFinite(facts),
            "loss_spikes": LossSpikes(facts),
            "gradient_spikes": GradientSpikes(facts),
            "learning_rate_low": LearningRateLow(facts),
            "slow": self._slow,
        }
        self._evaluations: dict[str, LineRule] = {
            "overfitting": Overfitting(facts),
            "swapped_columns": Swapped(facts),
            "reward_scale": RewardScale(facts),
        }

    def data(self) -> list[Finding]:
        """New findings about the data, before the first step."""
        hits = {name: rule(self._facts, self._threshold(name)) for name, rule in BY_DATA.items()}
        return self._new({name: Hit(0, 0, sentence) for name, sentence in hits.items() if sentence is not None})

    def feed(self, event: Mapping[str, Any]) -> list[Finding]:
        """New findings with this line of the log; lines of other types show none."""
        if event.get("type") == "eval":
            self._slow.forget()
            return self._new(
                {name: rule.feed(event, self._blocks, self._threshold(name)) for name, rule in self._evaluations.items()}
            )
        if event.get("type") != "train":
            return []
        is_whole = self._blocks.add(event)
        hits = {name: rule.feed(event, self._blocks, self._threshold(name)) for name, rule in self._lines.items()}
        if is_whole:
            hits |= {name: rule(self._blocks, self._facts, self._threshold(name)) for name, rule in BY_BLOCKS.items()}
        return self._new(hits)

    def answers(self, step: int, base: Sequence[Answered], trained: Sequence[Answered]) -> list[Finding]:
        """New findings with the sample answers of the base model and of the weights after ``step`` steps."""
        said = {name: rule(base, trained, self._facts, self._threshold(name)) for name, rule in BY_ANSWERS.items()}
        return self._new({name: Hit(step, step, sentence) for name, sentence in said.items() if sentence is not None})

    def add(self, rule: str, step: int, sentence: str) -> Finding | None:
        """A finding that was made elsewhere; None if its rule is off, or it was made before."""
        return next(iter(self._new({rule: Hit(step, step, sentence)})), None)

    def _threshold(self, name: str) -> float:
        return float(self._thresholds[name] or 0.0)

    def _new(self, hits: Mapping[str, Hit | None]) -> list[Finding]:
        explained = {other for name in {*self.found, *(n for n, hit in hits.items() if hit)} for other in _EXPLAINS.get(name, ())}
        new = []
        for name, hit in hits.items():
            if hit is None or self._actions[name] == "off" or name in explained:
                continue
            before = self.found.get(name)
            if before is not None:
                self.found[name] = replace(before, last_step=hit.last)
                continue
            self.found[name] = Finding(name, self._actions[name], hit.first, hit.last, hit.sentence, RULES[name].suggestion)
            new.append(self.found[name])
        return new


def _pair(setting: Any) -> tuple[str | None, float | None]:
    """Action and threshold of a rule's setting."""
    if isinstance(setting, Mapping):
        return setting.get("action"), setting.get("threshold")
    return setting, None


def findings(events: Iterable[Mapping[str, Any]], settings: Mapping[str, Any], facts: Facts) -> list[Finding]:
    """What the rules find in a whole log and its data, in the order in which it shows."""
    watch = Watch(settings, facts)
    watch.data()
    for event in events:
        watch.feed(event)
    return list(watch.found.values())
