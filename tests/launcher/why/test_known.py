"""Each message that this program knows has an example, which its own pattern finds before the others; each exit code one place."""

from __future__ import annotations

import re

import pytest

from launcher import errors
from launcher.errors import LauncherError
from launcher.why import explain, refusal
from launcher.why.codes import CODES, FINAL
from launcher.why.creation import CREATION, not_created
from launcher.why.image import CAUSES, not_pulled
from launcher.why.known import Known
from launcher.why.lines import MEANINGS, RANKS, in_lines
from launcher.why.refusal import REFUSALS
from tests.launcher.why.played import failed, last_word, seen

OF_LINES = pytest.mark.parametrize("known", MEANINGS, ids=lambda known: known.example[:40])


@OF_LINES
def test_the_example_of_a_line_is_found_by_its_own_pattern(known: Known) -> None:
    found = in_lines(seen("failed", "host"), [known.example])
    assert found is not None
    assert (found.cause, found.suggestion) == (known.cause, known.suggestion)
    assert found.sentence.startswith(known.meaning)


@pytest.mark.parametrize(("index", "example"), [(n, one[-1]) for n, one in enumerate(RANKS)])
def test_the_example_of_a_waiting_rank_is_found_by_its_own_pattern(index: int, example: str) -> None:
    found = in_lines(seen("failed", "host"), [example])
    assert found is not None
    assert found.cause == RANKS[index][2]
    assert found.sentence.startswith(RANKS[index][3].split("{")[0])


@pytest.mark.parametrize("known", CAUSES, ids=lambda known: known.example[:40])
def test_the_example_of_an_image_is_found_by_its_own_pattern(known: Known) -> None:
    found = not_pulled(seen(), "big-0", known.example)
    assert (found.cause, found.sentence.partition(": ")[2], found.suggestion) == (known.cause, known.meaning, known.suggestion)


@pytest.mark.parametrize("known", CREATION, ids=lambda known: known.example[:40])
def test_the_example_of_a_container_is_found_by_its_own_pattern(known: Known) -> None:
    found = not_created(seen(), "big-0", known.example)
    assert (found.cause, found.sentence, found.suggestion) == (
        known.cause, f"big-0 cannot start: {known.meaning}", known.suggestion
    )  # fmt: skip


@pytest.mark.parametrize("index", range(len(REFUSALS)), ids=lambda index: REFUSALS[index][0][:40])
def test_the_example_of_a_refusal_is_found_by_its_own_pattern(index: int) -> None:
    pattern, explained, example = REFUSALS[index]
    match = re.search(pattern, example)
    assert match is not None
    assert refusal(seen(), example) == explained(seen(), match)


def test_every_code_of_an_error_class_is_in_the_list_and_has_one_meaning() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, LauncherError)]
    assert {one.exit_code for one in classes} <= CODES.keys()
    assert list(CODES) == sorted(CODES)
    assert len({one.meaning for one in CODES.values()}) == len(CODES)


def test_a_cluster_does_not_retry_what_would_end_the_same() -> None:
    assert FINAL == (2, 42, 43, 44, 45, 46)


@pytest.mark.parametrize("code", [code for code, one in CODES.items() if one.cause and code != 0])
def test_why_tells_the_cause_that_the_list_has(code: int) -> None:
    assert explain(seen("failed", pods=(failed(code, last_word(code, "words of the run")),))).cause == CODES[code].cause
