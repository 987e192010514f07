"""Which answer a verdict names, in the words of annotators and of other tools."""

from __future__ import annotations

import pytest

from launcher.data.columns.verdicts import NEITHER, UNSAID, Sides, number

TWO = ("response_a", "response_b")


@pytest.mark.parametrize(
    ("cell", "names", "place"),
    [
        ("A", TWO, 0),
        (" b ", TWO, 1),
        ("response_b", TWO, 1),
        ("Response A", TWO, 0),
        ("model_a", TWO, 0),
        ("model_b", ("conversation_a", "conversation_b"), 1),
        ("[[B]]", TWO, 1),
        ("1", TWO, 0),
        ("2.0", TWO, 1),
        ("left", TWO, 0),
        ("Right", TWO, 1),
        ("first", TWO, 0),
        ("the second answer", TWO, 1),
        ("A is better", TWO, 0),
        ("Response B is much better.", TWO, 1),
        ("option 2", TWO, 1),
        ("0", ("response_0", "response_1"), 0),
        ("1", ("response_0", "response_1"), 1),
        ("1", ("answer_2", "answer_1"), 1),
        ("a", ("text_b", "text_a"), 1),
        ("human", ("gpt4_answer", "human_answer"), 1),
        ("Links", ("links", "rechts"), 0),
        ("left", ("gpt4", "human"), 0),
    ],
)
def test_an_answer_is_named_by_its_column_by_the_part_in_which_the_columns_differ_or_by_its_place(cell, names, place) -> None:
    assert Sides(names).of(cell) == place


@pytest.mark.parametrize(
    "cell",
    [
        "tie",
        "Tie",
        "tie (bothbad)",
        "draw",
        "both bad",
        "bothbad",
        "both",
        "neither",
        "equal",
        "about the same",
        "unsure",
        "Both are equally good",
        "both responses are bad",
        "They are about equal",
        "no difference",
        "neither is good",
        "not sure",
        "gleich gut",
        "unentschieden",
        "beide schlecht",
        "égalité",
        "empate",
    ],
)
def test_a_tie_prefers_neither(cell: str) -> None:
    assert Sides(TWO).of(cell) == NEITHER


@pytest.mark.parametrize("cell", ["", "  ", "nan", "None", "-", "n/a"])
def test_a_missing_value_is_no_verdict(cell: str) -> None:
    assert Sides(TWO).of(cell) == UNSAID


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("0", TWO),
        ("3", TWO),
        ("c", TWO),
        ("-1", TWO),
        ("Gemini", TWO),
        ("yes", TWO),
        ("2", ("response_0", "response_1")),
        ("a", ("text_b", "text_c")),
    ],
)
def test_what_names_no_answer_is_not_guessed(cell: str, names: tuple[str, str]) -> None:
    assert Sides(names).of(cell) is None


def test_values_of_ones_own_come_first_and_the_others_keep_their_meaning() -> None:
    sides = Sides(TWO, {"1": "response_b", "0": "response_a", "Same": "tie"})
    assert [sides.of(cell) for cell in ("0", "1", "1.0", "same", "A", "what")] == [0, 1, 1, NEITHER, 0, None]


def test_answers_of_a_list_are_named_by_their_places() -> None:
    sides = Sides(("A", "B"), {"0": "A", "1": "B"})
    assert [sides.of(cell) for cell in ("0", "1", "2", "b", "left")] == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("4", 4),
        (" 4.5 ", 4.5),
        ("4,5", 4.5),
        ("3/5", 3),
        ("-2", -2),
        ("true", 1),
        ("False", 0),
        ("", None),
        ("NaN", None),
        ("-", None),
    ],
)
def test_ratings_are_numbers_as_people_write_them(cell: str, expected: float | None) -> None:
    assert number(cell) == expected


@pytest.mark.parametrize("cell", ["good", "4 stars", "inf", "1e999"])
def test_a_rating_that_is_no_number_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        number(cell)
