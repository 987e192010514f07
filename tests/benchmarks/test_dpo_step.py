"""The variants of `make bench-step` take their work in turn."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.dpo_step import BLOCKS, figures, measured

END: dict[str, Any] = {"reference_seconds": 2.0, "pairs": 32, "batch": 8, "tokens": 100.0}


class Played:
    """A worker whose reference pass has ``parts`` batches; ``log`` is told each word with the worker's name."""

    def __init__(self, name: str, parts: int, log: list[tuple[str, str]]):
        self.name, self.parts, self.log, self.done = name, parts, log, 0
        self.process = self

    def told(self, word: str) -> dict[str, Any]:
        self.log.append((self.name, word))
        if word == "step":
            return {"seconds": 1.0}
        if self.done == self.parts:
            return dict(END)
        self.done += 1
        return {"done": (self.done - 1) / self.parts}

    def heard(self) -> dict[str, Any]:
        return {"losses": [], "peak_mib": 1.0}

    def wait(self) -> None:
        pass


@pytest.fixture
def log() -> list[tuple[str, str]]:
    return []


def test_parts_of_the_reference_pass_are_computed_in_turn(log: list[tuple[str, str]]) -> None:
    measured({"tuned": Played("tuned", 8, log), "ours": Played("ours", 32, log)}, 1)  # type: ignore[dict-item]
    scored = [name for name, word in log if word == "score"]
    assert scored == (["tuned"] + ["ours"] * 4) * BLOCKS


def test_a_variant_without_a_reference_pass_waits_for_its_first_step(log: list[tuple[str, str]]) -> None:
    found = measured({"trl": Played("trl", 0, log), "ours": Played("ours", 3, log)}, 2)  # type: ignore[dict-item]
    assert [word for name, word in log if name == "trl"] == ["begin", "step", "step", "step"]
    assert log[-2:] == [("trl", "step"), ("ours", "step")]
    assert found["ours"]["first_run_pairs_per_second"] == pytest.approx(1 / (2 / 32 + 1 / 8))


def test_a_rate_is_that_of_all_steps_which_are_the_same_pairs_for_every_variant() -> None:
    found = figures({**END, "peak_mib": 1.0, "losses": []}, [3.0, 1.0])
    assert found["pairs_per_second"] == pytest.approx(8 / 2)
    assert found["tokens_per_second"] == pytest.approx(100 / 2)
    assert found["first_run_pairs_per_second"] == pytest.approx(1 / (2 / 32 + 2 / 8))
