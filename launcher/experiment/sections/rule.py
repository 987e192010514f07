"""Rule: the settings of one rule, in ``health`` and in ``data_checks``: an action, and the threshold that triggers it."""

from typing import Any, Protocol

from pydantic import Field, model_serializer

from .section import Float, Section


class Rule(Section):
    """The settings of one rule. Subclasses name the actions."""

    action: str
    threshold: Float | None = Field(
        None, examples=[0.5], description="from which value on something is found; unset: the rule's own"
    )

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        return self.action if self.threshold is None else {"action": self.action, "threshold": self.threshold}


class Defined(Protocol):
    """A rule as the launcher defines it, with its default action and threshold."""

    @property
    def about(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def threshold(self) -> float | None: ...


def rule_field(settings: type[Rule], rule: Defined) -> Any:
    """The pydantic field of ``rule``: its default action, and a description that ends with its default threshold."""
    default = "" if rule.threshold is None else f" ({rule.threshold:g})"
    return Field(default_factory=lambda: settings.model_construct(action=rule.action), description=rule.about + default)
