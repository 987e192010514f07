"""A template's optional parts are there only with a value, and what cannot be read of a template is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.data.text.template import filled, names_of, paragraphs, parsed, required, written

ALPACA = "{instruction}{?\n\nInput: {input}}"


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        (ALPACA, {"instruction": "Sort it.", "input": "c a b"}, "Sort it.\n\nInput: c a b"),
        (ALPACA, {"instruction": "Sort it.", "input": ""}, "Sort it."),
        (ALPACA, {"instruction": "Sort it.", "input": " \u200b"}, "Sort it."),
        ("{?{a} and {b}: }{c}", {"a": "", "b": "x", "c": "y"}, " and x: y"),
        ("{?{a} and {b}: }{c}", {"a": "", "b": "", "c": "y"}, "y"),
        ("{?{{{a}}}}", {"a": "{x}"}, "{{x}}"),
    ],
)
def test_an_optional_part_is_left_out_where_all_its_values_are_blank(template: str, values: dict[str, str], text: str) -> None:
    assert filled(parsed(template)[0], values) == text


def test_its_placeholders_may_be_empty_and_those_outside_may_not() -> None:
    template, wrong = parsed("{?{system} }{a}{? {a}{b}}")
    assert (names_of(template), required(template), wrong) == (["system", "a", "b"], ["a"], [])


@given(st.text(st.sampled_from("{}?ab ")))
def test_a_template_without_mistakes_is_written_as_it_is_read(text: str) -> None:
    template, wrong = parsed(text)
    if not wrong and "{{" not in text and "}}" not in text:
        assert written(template) == text


def test_columns_without_a_template_are_paragraphs_of_which_all_but_the_first_are_optional() -> None:
    assert paragraphs(["a", "b"]) == parsed("{a}{?\n\n{b}}")[0]


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{a}{?{b}", "unmatched '{?'"),
        ("{?{a}{?{b}}", "an optional part inside another one"),
        ("{a}{? now}", "an optional part without a placeholder"),
        ("{?{a}}", None),
        ("{a}}", "unmatched '}'"),
    ],
)
def test_what_cannot_be_read_is_said(template: str, what: str | None) -> None:
    assert [one.what for one in parsed(template)[1]] == ([] if what is None else [what])
