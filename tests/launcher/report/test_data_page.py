"""The page of an experiment's data: whole without a network, and harmless with any text."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

from launcher.data.findings import Found
from launcher.data.pairs import Pairs
from launcher.data.survey import survey
from launcher.data.text.pair import Pair
from launcher.errors import Mistake
from launcher.report.data_page import render
from tests.launcher.report.test_page import EVIL, Elements

LONG = "It opens at seven in the morning and closes when the last roll is sold, which is usually about noon"


def pairs(text: str = "") -> Pairs:
    train = [
        Pair(None, f"Question {n}?", f"{' '.join(f'word{n}x{i}' for i in range(9 + n % 9))} {text}", f"No. {n}", n)
        for n in range(2, 62)
    ]
    train += [Pair(None, "When?", LONG, "Never.", 62), Pair(None, "When?", LONG + " sharp", "Never.", 63)]
    return Pairs(tuple(train), tuple(train[:3]), (), ())


def shown(text: str = "", cut: int = 0) -> dict[str, Any]:
    """A pair as the trainer shows it."""
    kept = [f"word{n} " for n in range(30)]
    answer = {"kept": [*kept, text, "", "🙂\n"], "cut": [f"lost{n} " for n in range(cut)]}
    return {
        "line": 7,
        "why": "the longest pair",
        "prompt": ["<|user|>\n", text],
        "chosen": answer,
        "rejected": {"kept": kept, "cut": []},
    }


def page(text: str = "", **more: Any) -> dict[str, Any]:
    """What ``Surveyed.page`` gives, with ``text`` in every text."""
    found = Found(
        "html_entities",
        "warning",
        f"d/t.csv{text}",
        "cells in column 'a'",
        "contain HTML entities",
        5,
        62,
        ("d/t.csv:2", "d/t.csv:3", "d/t.csv:4"),
        text,
    )
    sources = [
        {"role": "train", "name": f"d/t.csv{text}", "sha256": "a" * 64, "rows": 62},
        {"role": "validation", "name": "v", "sha256": "b" * 64, "rows": 3},
    ]
    return {
        "key": f"exp{text}",
        "file": f"configs/e.yml{text}",
        "topic": text or None,
        "model": f"org/m{text}",
        "limit": 96,
        "columns": ["a", f"b{text}"],
        "sources": sources,
        "training_pairs": 62,
        "validation_pairs": 3,
        "notices": [{"is_warning": False, "text": f"d/t.csv: unused columns: {text}"}],
        "mistakes": [],
        "errors": [],
        "found": [asdict(found)],
        "survey": json.loads(json.dumps(survey(pairs(text)).json())),
        "missing": text or None,
        "examples": [shown(text, cut=12)],
        "pair": None,
        **more,
    }


def test_the_page_has_rows_lengths_pairs_findings_and_a_pair_token_by_token() -> None:
    made = render(page())
    words = Elements(made).words
    for part in (
        "62 training pairs, 3 validation pairs: every row is a pair. Columns: a, b.",
        "characters median 95 % longest",
        "the chosen answer is longer in 100 % of the pairs",
        "0 repeated, 0 contradict another one, 1 nearly repeat an earlier one (row 63 like 62)",
        "3 of 3 are training pairs, 3 nearly repeat a training prompt (row 2 like 2, row 3 like 3, row 4 like 4)",
        "warning html_entities d/t.csv: 5 of 62 cells in column 'a' contain HTML entities (line 2, line 3, line 4 …)",
        "Row 7: the longest pair 2 tokens of prompt, 45 of the chosen answer, 30 of the rejected answer.",
        "cut here, at 96 tokens",
    ):
        assert part in words
    assert made.count("<span>word0 </span><span>word1 </span>") == 2
    assert re.search(r"cut here, at 96 tokens</b><s><span>lost0 </span>", made)
    (histograms,) = re.findall(r'<script type="application/json" id="histograms">(.*?)</script>', made, re.DOTALL)
    assert [one["title"] for one in json.loads(histograms)] == [
        "Prompt",
        "Chosen answer",
        "Rejected answer",
        "Chosen less rejected",
    ]
    assert all(sum(one["bins"]["counts"]) == 62 for one in json.loads(histograms))


def test_texts_of_the_data_are_text_and_nothing_is_loaded_from_anywhere() -> None:
    elements = Elements(render(page(EVIL)))
    assert [tag for tag, _ in elements.found if tag in ("script", "img")] == ["script"] * 5
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs) or attrs.get("src")]
    assert elements.text.count("<script>alert(1)</script>") >= 8
    policy = next(attrs["content"] for _, attrs in elements.found if attrs.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none';")


def test_data_that_cannot_be_read_are_a_page_of_their_mistakes_each_once_with_its_first_places() -> None:
    mistakes = [asdict(Mistake(f"d/t.csv:{line}", "empty cell in column 'a'")) for line in range(2, 9)]
    mistakes.append(asdict(Mistake("d/t.csv:4", "wrong number of cells", "3 cells", "4 cells", "quote it")))
    empty = {
        "sources": [],
        "found": [],
        "notices": [],
        "survey": None,
        "examples": [],
        "training_pairs": 0,
        "validation_pairs": 0,
    }
    words = Elements(render(page(errors=mistakes, **empty))).words
    assert "error 7 times: empty cell in column 'a' (d/t.csv:2, d/t.csv:3, d/t.csv:4 …)" in words
    assert "error wrong number of cells; expected 3 cells; found 4 cells (d/t.csv:4) What to do: quote it" in words
    assert "Lengths" not in words


def test_without_a_tokenizer_a_pair_is_shown_before_its_template() -> None:
    pair = asdict(Pair("Be brief.", "When?", "At <b>seven</b>.", None, 5))
    words = Elements(render(page(examples=[], pair=pair))).words
    assert "Row 5, before the chat template system Be brief. prompt When? chosen At <b>seven</b>." in words


def test_a_long_text_is_shortened_and_says_by_how_much() -> None:
    long = {**shown(), "prompt": ["x"] * 5000}
    made = render(page(examples=[long]))
    assert (made.count("<span>x</span>"), "… 3,000 more tokens" in made) == (2000, True)
