"""What `launcher data` counts without a tokenizer."""

from __future__ import annotations

from launcher.data.pairs import Pairs
from launcher.data.survey import (
    Bias,
    Bins,
    Format,
    Lengths,
    bias_of,
    bins_of,
    formats_of,
    languages_of,
    lengths_of,
    script,
    survey,
)
from launcher.data.text.languages import language
from launcher.data.text.pair import Pair


def pair(user: str, chosen: str, rejected: str, line: int = 2) -> Pair:
    return Pair(None, user, chosen, rejected, line)


def test_lengths_are_the_median_the_95_percent_quantile_and_the_longest() -> None:
    assert lengths_of(range(1, 101), "tokens", 3) == Lengths("tokens", 50, 95, 100, 3)
    assert lengths_of([7], "tokens") == Lengths("tokens", 7, 7, 7)


def test_the_length_bias_leaves_out_answers_of_one_length() -> None:
    assert bias_of([5, 6, 3, 4], [1, 2, 4, 4], "tokens") == Bias("tokens", 2 / 3, 0)
    assert bias_of([4], [4], "tokens") == Bias("tokens", 0.5, 0)


def test_repeats_contradictions_and_prompts_that_validation_shares_are_counted() -> None:
    train = (
        pair("Where is it?", "here", "there"),
        pair("Where is it?", "here", "there"),
        pair("Where is it?", "there", "here"),
        pair("Who?", "Ann", "nobody at all"),
    )
    held_out = (pair("Who?", "Ann", "nobody at all"), pair("where IS it", "up", "down"), pair("Why?", "x", "y"))
    found = survey(Pairs(train, held_out, (), ()))
    assert (found.training, found.validation) == (4, 3)
    assert (found.repeated, found.contradicting, found.leaked, found.near) == (1, 3, 1, 2)
    assert found.lengths["prompt"] == Lengths("characters", 12, 12, 12)
    assert found.lengths["rejected"].longest == 13


def test_forms_that_tell_chosen_from_rejected_answers_are_named_with_their_shares() -> None:
    pairs = [pair("q", "- one\n- two" if number % 2 else "Yes.", "I'm sorry, no.") for number in range(20)]
    assert formats_of(pairs) == (
        Format("lists", 0.5, 0.0),
        Format("several lines", 0.5, 0.0),
        Format("a full stop at the end", 0.5, 1.0),
        Format("a capital at the beginning", 0.5, 1.0),
        Format("an apology or refusal", 0.0, 1.0),
    )


def test_answers_in_another_script_are_named_and_few_pairs_say_nothing() -> None:
    pairs = [pair("q", "Привет", "Hello") for _ in range(20)]
    assert formats_of(pairs) == (Format("Cyrillic script", 1.0, 0.0), Format("Latin script", 0.0, 1.0))
    assert formats_of(pairs[:19]) == ()
    assert [script(text) for text in ("12 !", "你好", "γεια")] == ["", "Cjk", "Greek"]


def test_pairs_without_a_rejected_answer_have_neither_its_lengths_nor_a_bias() -> None:
    found = survey(Pairs(tuple(Pair(None, f"q {n}", "- a", None, n) for n in range(20)), (), (), ()))
    assert (list(found.lengths), found.bias, found.formats) == (["prompt", "chosen"], None, ())


def test_a_histogram_has_round_bins_and_its_last_bin_holds_what_is_far_outside() -> None:
    assert bins_of([0, 4, 9, 10, 29]) == Bins(0, 1, (1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, *[0] * 18, 1), 0, 29)
    found = bins_of([*range(100, 300), 90_000])
    assert (found.begin, found.width, found.counts[-1], found.high, sum(found.counts)) == (0, 10, 11, 90_000, 201)
    apart = bins_of([-30, -10, 0, 5, 5, 40])
    assert (apart.begin % apart.width, sum(apart.counts), apart.low, apart.high) == (0, 6, -30, 40)


def test_languages_that_differ_between_the_sides_are_named() -> None:
    chosen = ["Ich habe das Fenster geöffnet und frische Luft hereingelassen.", "Der Hund schläft auf dem Teppich im Flur."]
    rejected = ["I have opened the window and let in some fresh air.", "The dog is sleeping on the carpet in the hall."]
    pairs = [pair("q", chosen[n % 2], rejected[n % 2]) for n in range(20)]
    assert languages_of(pairs) == (Format("language de", 1.0, 0.0), Format("language en", 0.0, 1.0))
    assert languages_of([pair("q", chosen[n % 2], chosen[(n + 1) % 2]) for n in range(20)]) == ()


def test_texts_without_a_language_have_none() -> None:
    assert [
        language(text) for text in ("", "12", "def f(x):\n    return x+1", "Bonjour, je voudrais réserver une table pour deux.")
    ] == ["", "", "", "fr"]
