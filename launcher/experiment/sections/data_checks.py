"""The section ``data_checks``: for each data rule, whether a finding is an error, a warning or ignored."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .data_rules import DATA_RULES
from .rule import Rule, rule_field
from .section import Section, action_of_word


class Check(Rule):
    """One data rule. A threshold of None is the rule's own."""

    action: Literal["error", "warn", "off"] = Field("warn", examples=["error"], description="what a finding does")


Checked = Annotated[Check, BeforeValidator(action_of_word)]


def _checked(name: str) -> Any:
    return rule_field(Check, DATA_RULES[name])


class DataChecks(Section):
    """Rules that check the rows."""

    empty_cell: Checked = _checked("empty_cell")
    empty_row: Checked = _checked("empty_row")
    repeated_header: Checked = _checked("repeated_header")
    formula_error: Checked = _checked("formula_error")
    control_character: Checked = _checked("control_character")
    messages_as_text: Checked = _checked("messages_as_text")
    bom_inside: Checked = _checked("bom_inside")
    huge_cell: Checked = _checked("huge_cell")
    equal_answers: Checked = _checked("equal_answers")
    nearly_equal_answers: Checked = _checked("nearly_equal_answers")
    contradiction: Checked = _checked("contradiction")
    repeated_pair: Checked = _checked("repeated_pair")
    shared_answer: Checked = _checked("shared_answer")
    longer_chosen: Checked = _checked("longer_chosen")
    leaked_pair: Checked = _checked("leaked_pair")
    prompt_in_answer: Checked = _checked("prompt_in_answer")
    template_marks: Checked = _checked("template_marks")
    missing_word: Checked = _checked("missing_word")
    mojibake: Checked = _checked("mojibake")
    replacement_character: Checked = _checked("replacement_character")
    zero_width: Checked = _checked("zero_width")
    excel_escapes: Checked = _checked("excel_escapes")
    carriage_return: Checked = _checked("carriage_return")
    excel_cut: Checked = _checked("excel_cut")
    html_entities: Checked = _checked("html_entities")
    literal_newline: Checked = _checked("literal_newline")
    outer_white_space: Checked = _checked("outer_white_space")

    def action(self, name: str) -> str:
        """``error``, ``warn`` or ``off``."""
        return str(getattr(self, name).action)

    def threshold(self, name: str) -> float:
        """The threshold of a rule that has one."""
        own = getattr(self, name).threshold
        return float(DATA_RULES[name].threshold or 0.0) if own is None else float(own)
