"""What one cell can hold that nobody meant, and what it may hold."""

from __future__ import annotations

import pytest

from launcher.data.text.faults import FORMULA_ERRORS, faults, is_blank
from launcher.experiment.sections.data_rules import DATA_RULES


@pytest.mark.parametrize(
    ("cell", "rule", "found"),
    [
        (" #REF! ", "formula_error", "#REF!"),
        ("#BEZUG!", "formula_error", "#BEZUG!"),
        ("#¿NOMBRE?", "formula_error", "#¿NOMBRE?"),
        ("#ССЫЛКА!", "formula_error", "#ССЫЛКА!"),
        ("NaN", "missing_word", "NaN"),
        ("None", "missing_word", "None"),
        ("<NA>", "missing_word", "<NA>"),
        ("a\x07b", "control_character", "U+0007 at character 2 of the cell"),
        ("a\x85b", "control_character", "U+0085 at character 2 of the cell"),
        ("a\r\nb", "carriage_return", "\\r"),
        ('[{"role": "user", "content": "Hi"}]', "messages_as_text", "1 message"),
        ("[{'content': 'Hi', 'role': 'user'}, {'content': 'Ho', 'role': 'assistant'}]", "messages_as_text", "2 messages"),
        ('[{"from": "human", "value": "Hi"}]', "messages_as_text", "1 message"),
        ("<|im_start|>user\nWhere?<|im_end|>", "template_marks", "<|im_start|>"),
        ("[INST] Where? [/INST]", "template_marks", "[INST]"),
        ("At Linden Square.</s>", "template_marks", "</s>"),
        ("<start_of_turn>user", "template_marks", "<start_of_turn>"),
        ("########", "formula_error", "########"),
        ("(null)", "missing_word", "(null)"),
        ("\\N", "missing_word", "\\N"),
        ("k.A.", "missing_word", "k.A."),
        ("-", "missing_word", "-"),
        ("<｜Assistant｜>At Linden Square.<｜end▁of▁sentence｜>", "template_marks", "<｜Assistant｜>"),
        ("<|start|>assistant<|channel|>final<|message|>Here.<|return|>", "template_marks", "<|start|>"),
        ("<s>Where is it?", "template_marks", "<s>"),
        ("Here.<eos>", "template_marks", "<eos>"),
        ("\n\nHuman: Where?\n\nAssistant: Here.", "template_marks", "Human:"),
        ("### Instruction:\nName a bird.", "template_marks", "### Instruction:"),
        ("Fish &copy; chips", "html_entities", "&copy;"),
        ("one\\ntwo", "literal_newline", "\\n"),
        ("one\\r\\ntwo", "literal_newline", "\\n"),
        ("one_x000D_\ntwo", "excel_escapes", "_x000D_"),
        ("Fish &amp; chips", "html_entities", "&amp;"),
        ("It&#39;s", "html_entities", "&#39;"),
        ("One.\\nTwo.", "literal_newline", "\\n"),
        ("a\ufeffb", "bom_inside", "U+FEFF at character 2 of the cell"),
        ("Stra\ufffde", "replacement_character", "U+FFFD at character 5 of the cell"),
        ("Zoe\u200b Miller", "zero_width", "U+200B at character 4 of the cell"),
        ("schÃ¶ne GrÃ¼ÃŸe", "mojibake", "schÃ¶ne GrÃ¼ÃŸe"),
        ("Itâ€™s late", "mojibake", "Itâ€™s late"),
        (" Hi", "outer_white_space", None),
    ],
)
def test_a_fault_is_found_with_what_stands_there(cell: str, rule: str, found: str | None) -> None:
    assert (rule, found) in list(faults(cell))
    assert rule in DATA_RULES


@pytest.mark.parametrize(
    "cell",
    [
        "Schöne Grüße aus Århus — “so” weiß … 5 €",
        "نمی\u200cخواهم",  # Persian joins its words with U+200C
        "👩\u200d👩\u200d👧",
        "Привет, мир",
        "你好，世界",
        "α \\nabla f, \\neq 0",
        "It lies in C:\\new\\names, or on \\\\server\\notes.",
        "## Birds\n\n### Geese\n\nHumans like them.",
        "x < y and <b>bold</b>",
        "#1 and ##",
        'print("a\\nb")\nreturn',
        "if a < b and b > c: return [1, 2]",
        "<s>struck</s> out and more",
        "AT&T; R&D",
        '{"role": "judge"}',
        '[{"name": "a"}]',
        "None of them",
        "NA-1",
        "# A heading",
        "snake_x_y",
    ],
)
def test_ordinary_text_has_no_fault(cell: str) -> None:
    assert list(faults(cell)) == []


def test_a_cell_of_characters_without_width_is_blank() -> None:
    assert [is_blank(cell) for cell in ("", " \t", "\u200b\u200b", "\ufeff ", "a", "\u200ba")] == [True] * 4 + [False] * 2


def test_every_formula_error_is_one_word() -> None:
    assert len(FORMULA_ERRORS) > 60
    assert not [word for word in FORMULA_ERRORS if word.strip() != word or " " in word]
