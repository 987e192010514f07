"""Near-duplicates: almost equal pairs, and validation prompts that the training pairs have, too."""

from __future__ import annotations

import pytest

from launcher.data.checks import near
from launcher.data.checks.near import Near, near_duplicates
from launcher.data.text.pair import Pair

LONG = "The bakery at the corner of Linden Square opens at seven and sells rye bread, rolls and cake until noon except on Mondays"


def pair(line: int, user: str, chosen: str = "a", rejected: str = "b") -> Pair:
    return Pair(None, user, chosen, rejected, line)


def test_a_training_pair_that_changes_one_word_of_an_earlier_one_is_named_with_it() -> None:
    train = [
        pair(2, "When does the bakery open?", LONG, "I do not know that, and nobody else does."),
        pair(3, "How is rye bread made?", "With sourdough, water, salt and a day of patience.", "It is bought in a shop."),
        pair(4, "When does the bakery open?", LONG.replace("seven", "eight"), "I do not know that, and nobody else does."),
    ]
    assert near_duplicates(train, ()) == Near(1, 0, ((4, 2),), ())


def test_equal_pairs_and_exchanged_answers_are_counted_elsewhere() -> None:
    one = pair(2, "When does the bakery open?", LONG, "I do not know that.")
    assert near_duplicates([one, pair(3, one.user, one.chosen, one.rejected or "")], ()).training == 0
    assert near_duplicates([one, pair(3, one.user, one.rejected or "", one.chosen)], ()).training == 0


def test_a_prompt_with_other_answers_is_another_pair_in_training_but_known_in_validation() -> None:
    train = [
        pair(2, LONG, "Yes, it does, from seven o'clock on.", "No."),
        pair(3, LONG, "It was open all year.", "Never, sadly!"),
    ]
    found = near_duplicates(train, [pair(2, LONG.replace("rolls", "buns"), "x", "y"), pair(3, "Who bakes the rolls?", "x", "y")])
    assert found == Near(0, 1, (), ((2, 2),))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is five greater than three or is it not?", "Is three greater than five or is it not?"),
        ("What is 7 times 8?", "What is 7 times 9?"),
    ],
)
def test_prompts_of_the_same_words_that_ask_something_else_are_not_near(one: str, other: str) -> None:
    assert near_duplicates([pair(2, one)], [pair(2, other)]).validation == 0


def test_what_a_template_puts_around_every_prompt_makes_none_of_them_near() -> None:
    frame = "You are given the review of a customer. Decide whether it is friendly and answer with one word. The review: {}"
    subjects = ["soup", "bread", "cake", "wine", "fish", "tea", "rice", "milk", "beer", "jam"]
    reviews = [f"The {a} was late and the {b} was cold, {n} times" for n, a in enumerate(subjects) for b in subjects if a != b]
    train = [pair(n, frame.format(text)) for n, text in enumerate(reviews[:60], 2)]
    other = "My neighbour recommends this place to everybody since the new owner painted its walls"
    assert near_duplicates(train, [pair(2, frame.format(other))]).validation == 0


def test_texts_without_spaces_are_compared_by_characters() -> None:
    text = "我们的面包店每天早上七点开门，卖黑麦面包和蛋糕，一直到中午十二点关门"
    assert near_duplicates([pair(2, text)], [pair(5, text.replace("蛋糕", "点心"))]).validation_places == ((5, 2),)


def test_thousands_of_almost_equal_pairs_take_no_longer_than_others() -> None:
    train = [pair(n, "When does it open?", f"{LONG} {n}", "I do not know that, and nobody else does.") for n in range(2, 3002)]
    assert near_duplicates(train, ()).training == 2999


def test_without_the_package_prompts_are_compared_by_their_letters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "can_compare", lambda: False)
    train = [pair(2, LONG, LONG), pair(3, LONG, f"{LONG} again")]
    assert near_duplicates(train, [pair(7, LONG.upper() + " !")]) == Near(None, 1, (), ((7, 2),))
