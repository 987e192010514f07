"""The data rules with default action, threshold and hint. Settings and docs are generated from this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class DataRule:
    """``one``: the message for one place. ``many``: the message after a number of cells, rows or pairs.

    ``about``: what the rule finds, with the unit of its threshold. ``is_mild``: reported as a notice, not a warning.
    """

    name: str
    about: str
    one: str
    many: str
    hint: str | None = None
    action: Literal["error", "warn", "off"] = "warn"
    threshold: float | None = None
    is_mild: bool = False


def _holds(name: str, about: str, what: str, hint: str | None, action: Literal["error", "warn"] = "warn") -> DataRule:
    """A rule for cells that contain ``what``."""
    return DataRule(name, about, what, f"contain {what}", hint, action)


_FIX: Final = "write a clean copy with: launcher check EXP --fix"
_ALL: Final = (
    DataRule("empty_cell", "a cell without a visible character", "empty cell", "are empty", None, "error"),
    DataRule("empty_row", "an empty row between others", "empty row", "are empty", "delete it", "error"),
    DataRule(
        "repeated_header", "a row that repeats the header", "the header again", "repeat the header", "delete the row", "error"
    ),
    _holds(
        "formula_error",
        "a formula error instead of a value, such as #REF! or #NV",
        "a formula error",
        "fix the formula in the spreadsheet",
        "error",
    ),
    _holds("control_character", "a control character", "control character", None, "error"),
    _holds(
        "messages_as_text",
        "a list of chat messages in a column of texts: the model would learn to write lists; with warn or off all lists are text",
        "a list of messages as text",
        "use lists of messages in all cells of the column, or text in all",
        "error",
    ),
    _holds(
        "bom_inside",
        "a byte order mark inside the data",
        "a byte order mark (U+FEFF)",
        _FIX,
        "error",
    ),
    DataRule(
        "huge_cell",
        "a cell too large for a training text; threshold: megabytes",
        "a cell of more than {threshold:g} MB",
        "have more than {threshold:g} MB",
        "check where the cell ends: a quote may be missing",
        "error",
        5.0,
    ),
    DataRule(
        "equal_answers",
        "equal answers, compared in Unicode's normal form (NFC)",
        "chosen and rejected are equal",
        "have equal answers",
        "change or delete the row: it states no preference",
        "error",
    ),
    DataRule(
        "nearly_equal_answers",
        "answers that differ only in white space or zero-width characters",
        "answers that differ only in white space",
        "have answers that differ only in white space",
    ),
    DataRule(
        "contradiction",
        "two pairs with opposite preferences",
        "a pair that contradicts another one",
        "contradict another one (opposite preference)",
        "keep the right one",
    ),
    DataRule(
        "repeated_pair",
        "a pair that repeats an earlier one",
        "a repeated pair",
        "repeat an earlier one exactly",
        is_mild=True,
    ),
    DataRule(
        "shared_answer",
        "one answer in many rows: the model learns that text, and not what makes an answer better; threshold: their share",
        "the same answer as in many other rows",
        "are the same text: the model learns that text, and not what makes an answer better",
        "give each prompt an answer of its own",
        threshold=0.5,
    ),
    DataRule(
        "longer_chosen",
        "most chosen answers are far longer than the rejected ones: the model may learn length in place of content; threshold: "
        "how many times as long",
        "a chosen answer at least {threshold:g} times as long as the rejected one",
        "have a chosen answer at least {threshold:g} times as long as the rejected one: the model may learn length in place of "
        "content",
        "balance the lengths, or set hyperparameters.ld_alpha below 1",
        threshold=1.5,
    ),
    DataRule(
        "leaked_pair",
        "a validation pair that is also a training pair",
        "a validation pair that is also a training pair",
        "are also training pairs: evaluations look better than they are",
    ),
    DataRule(
        "prompt_in_answer",
        "answers that repeat the prompt, at their beginning or inside: the model would learn to repeat it",
        "an answer repeats the prompt",
        "have an answer that repeats the prompt",
        "remove the prompt from the answers",
    ),
    _holds(
        "template_marks",
        "marks of a chat template, which the run adds itself",
        "marks of a chat template",
        "write plain text: the template is applied to it",
    ),
    DataRule(
        "missing_word",
        "a cell that is only a word for a missing value, such as nan, None or null",
        "a word for a missing value",
        "are only a word for a missing value",
        "delete these rows, or fill them in",
    ),
    _holds(
        "mojibake",
        "UTF-8 that was read as another encoding, such as 'Ã¤' for 'ä'",
        "text in a wrong encoding",
        "export the data as UTF-8 again",
    ),
    _holds(
        "replacement_character",
        "U+FFFD, which stands for a character that was lost",
        "a lost character (U+FFFD)",
        "export the data as UTF-8 again",
    ),
    _holds("zero_width", "a zero-width space", "a zero-width space", _FIX),
    _holds(
        "excel_escapes",
        "a character that Excel has escaped, such as _x000D_",
        "a character that Excel has escaped",
        _FIX,
    ),
    _holds("carriage_return", "a carriage return", "a carriage return", _FIX),
    DataRule(
        "excel_cut",
        "a cell as long as Excel allows: it was cut; threshold: characters",
        "a cell of exactly {threshold:,.0f} characters",
        "have exactly {threshold:,.0f} characters, which is Excel's limit: they were cut",
        "export the data without Excel",
        threshold=32_767,
    ),
    _holds("html_entities", "HTML entities such as &amp;", "HTML entities", "unescape them if the text is not HTML"),
    _holds(
        "literal_newline",
        "a backslash and an n instead of a line break",
        "\\n as two characters and no line break",
        "write line breaks into the cell",
    ),
    DataRule(
        "outer_white_space",
        "white space at the beginning or the end of a cell",
        "white space around the text",
        "begin or end with white space, which is kept",
        is_mild=True,
    ),
)
DATA_RULES: Final = {rule.name: rule for rule in _ALL}
