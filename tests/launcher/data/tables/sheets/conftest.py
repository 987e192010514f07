"""A Google of this machine, with one spreadsheet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sheets.google import SPREADSHEET, Google, new_key, serving

TRAIN = [["prompt", "chosen", "rejected"], ["a?", "yes", "no"], ["b?", "1.5 %", ""], [], ["c?", "24.11.2026", "no", ""], [""], []]


@pytest.fixture(scope="session")
def key() -> str:
    return new_key()


@pytest.fixture
def google(key: str) -> Iterator[Google]:
    sheets = {
        "Train": TRAIN,
        "Held out": [["prompt", "chosen", "rejected"], ["d?", "yes", "no"]],
        "Anna's prompts": [["name", "system", "user"], ["prompt_default", "", "{prompt}"]],
    }
    with serving(Google(key, sheets={SPREADSHEET: sheets})) as served:
        yield served
