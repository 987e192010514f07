"""The section ``health``: for each rule of launcher.health what to do, and from which threshold on."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer

from ...health import RULES
from .section import Float, Section, action_of_word


class Rule(Section):
    """One health rule: what to do, and from which threshold on; None is the rule's own."""

    action: Literal["warn", "stop", "off"] = Field("warn", examples=["stop"], description="what a finding does")
    threshold: Float | None = Field(
        None, examples=[0.5], description="from which value on something is found; unset: the rule's own"
    )

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        return self.action if self.threshold is None else {"action": self.action, "threshold": self.threshold}


Watched = Annotated[Rule, BeforeValidator(action_of_word)]


def _watched(name: str) -> Any:
    """The field of the rule ``name`` of launcher.health."""
    rule = RULES[name]
    default = "" if rule.threshold is None else f" ({rule.threshold:g})"
    return Field(default_factory=lambda: Rule.model_construct(action=rule.action), description=rule.about + default)


class Health(Section):
    """What the run watches in its own metrics: the rules of launcher.health."""

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
