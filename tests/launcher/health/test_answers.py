from __future__ import annotations

import pytest

from launcher.health import Answered, Answers, Facts, Watch
from launcher.health.answers import loop

FACTS = Facts(answers=Answers(count=200, cut=0, median=20, longest=60, longest_row=3))
GOOD = "Bake it for 22 minutes at 190 degrees, then let it rest on a rack."


def answered(*texts: str, tokens: int = 18, is_cut: bool = False) -> list[Answered]:
    return [Answered(text, tokens, is_cut) for text in texts]


def said(base: list[Answered], trained: list[Answered], facts: Facts = FACTS, **settings: object) -> dict[str, str]:
    return {one.rule: one.sentence for one in Watch(settings, facts).answers(40, base, trained)}


def test_answers_that_are_empty_loop_or_never_end_are_told_with_their_numbers_and_those_of_the_base() -> None:
    unended = Answered("A long story of the bread " + GOOD, 128, True)
    trained = [*answered("", "ha" * 40, "on and on and on and on and on and on"), unended]
    assert said(answered(*[GOOD] * 4), trained) == {
        "degenerate_answers": "4 of 4 sample answers are degenerate (of the base model's 0): 2 repeat one text to the end "
        "('ha'), 1 is empty, 1 does not end"
    }


def test_what_the_base_model_answers_no_better_is_no_fault_of_the_training() -> None:
    assert said(answered("", "x" * 60), answered("y" * 60, "")) == {}
    assert said(answered("", GOOD), answered("y" * 60, "")) != {}


def test_half_of_the_answers_is_not_enough_unless_the_threshold_says_so() -> None:
    trained = answered(GOOD, GOOD, "", "")
    assert said(answered(*[GOOD] * 4), trained) == {}
    assert list(said(answered(*[GOOD] * 4), trained, degenerate_answers={"threshold": 0.4})) == ["degenerate_answers"]
    assert said(answered(*[GOOD] * 4), answered(*[""] * 4), degenerate_answers="off") == {}


def test_answers_cut_at_the_most_tokens_are_told_only_where_those_of_the_training_are_far_shorter() -> None:
    base, cut = answered(GOOD, GOOD), answered("One " + GOOD, "Two " + GOOD, tokens=32, is_cut=True)
    long = Facts(answers=Answers(count=200, cut=0, median=30, longest=60, longest_row=3))
    assert said(base, cut, long) == {}, "an answer of the training would be cut there, too"
    short = Facts(answers=Answers(count=200, cut=0, median=16, longest=60, longest_row=3))
    assert said(base, cut, short) == {
        "degenerate_answers": "2 of 2 sample answers are degenerate (of the base model's 0): 2 do not end"
    }
    assert said(base, cut, Facts()) == {}, "nothing is known of the training's answers"


def test_answers_that_all_grew_beyond_the_base_models_and_the_trainings_are_told() -> None:
    base = answered(GOOD, GOOD, GOOD)
    assert said(base, answered(GOOD, GOOD, GOOD, tokens=30)) == {
        "longer_answers": "all 3 sample answers are longer than the base model's: 30 tokens (median) against 18; those of the "
        "training data have 20"
    }
    assert said(base, answered(GOOD, GOOD, GOOD, tokens=29)) == {}, "that is what the training taught"
    assert said(base, [*answered(GOOD, GOOD, tokens=90), *answered(GOOD)]) == {}, "one did not grow"
    assert said(base[:2], answered(GOOD, GOOD, tokens=90)) == {}, "two may grow by chance"
    assert "at least 60 tokens" in said(base, answered(GOOD, GOOD, GOOD, tokens=60, is_cut=True), facts(40))["longer_answers"]


def facts(median: float) -> Facts:
    return Facts(answers=Answers(count=200, cut=0, median=median, longest=200, longest_row=3))


def test_answers_that_never_end_are_not_also_told_as_longer() -> None:
    base, cut = answered(GOOD, GOOD, GOOD), answered(GOOD, GOOD, GOOD, tokens=128, is_cut=True)
    assert list(said(base, cut)) == ["degenerate_answers"]


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("L" * 52, "L"),
        ("Well, " + "onon" * 10 + ".", "on"),
        ("\ufffd" * 40, "\ufffd"),
        ("It depends. It depends. It depends. It depends. It depends. It", "It depends."),
    ],
)
def test_a_loop_is_found_by_what_it_repeats(text: str, repeated: str) -> None:
    found = loop(text)
    assert found is not None
    assert sorted(found.strip()) == sorted(repeated)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no, no, no, no",
        GOOD,
        "Take 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 or 13 of them.",
        GOOD + " Stir, stir, stir, stir, stir.",
        "| step | time |\n|------|------|\n| rest | 40 min |\n| bake | 22 min |",
    ],
)
def test_an_answer_that_only_has_a_repetition_is_no_loop(text: str) -> None:
    assert loop(text) is None
