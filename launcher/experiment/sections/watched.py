"""The section ``health``: for each health rule, what a finding does, and its threshold."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ...health import RULES
from .rule import Rule, rule_field
from .section import Section, action_of_word


class HealthRule(Rule):
    """One health rule. A threshold of None is the rule's own."""

    action: Literal["warn", "stop", "off"] = Field("warn", examples=["stop"], description="what a finding does")


Watched = Annotated[HealthRule, BeforeValidator(action_of_word)]


def _watched(name: str) -> Any:
    return rule_field(HealthRule, RULES[name])


class Health(Section):
    """Health rules that watch the run's metrics."""

    not_finite: Watched = _watched("not_finite")
    first_loss: Watched = _watched("first_loss")
    loss_stuck: Watched = _watched("loss_stuck")
    margin_flat: Watched = _watched("margin_flat")
    accuracy_low: Watched = _watched("accuracy_low")
    loss_spikes: Watched = _watched("loss_spikes")
    gradient_spikes: Watched = _watched("gradient_spikes")
    chosen_falling: Watched = _watched("chosen_falling")
    reward_scale: Watched = _watched("reward_scale")
    learning_rate_low: Watched = _watched("learning_rate_low")
    overfitting: Watched = _watched("overfitting")
    flipped_labels: Watched = _watched("flipped_labels")
    swapped_columns: Watched = _watched("swapped_columns")
    length_bias: Watched = _watched("length_bias")
    degenerate_answers: Watched = _watched("degenerate_answers")
    longer_answers: Watched = _watched("longer_answers")
    truncated: Watched = _watched("truncated")
    giant_answer: Watched = _watched("giant_answer")
    duplicates: Watched = _watched("duplicates")
    slow: Watched = _watched("slow")
    gpu_idle: Watched = _watched("gpu_idle")
