"""Pairs that are held out of the training data for validation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.data.held_out import chosen, held_out, others
from launcher.data.pairs import Pairs, read_pairs
from launcher.data.tables.reading import Reading
from launcher.data.tables.streamed import Streamed
from launcher.data.text.pair import Pair
from launcher.errors import DataError
from launcher.experiment.schema import Experiment


def pairs(*prompts: str) -> tuple[Pair, ...]:
    return tuple(Pair(None, prompt, f"good {line}", "bad", line) for line, prompt in enumerate(prompts, 2))


def read(root: Path, *prompts: str, share: float = 0.25, topics: str = "bread") -> Pairs:
    rows = "".join(f"{prompt},good {i},bad {i},{topics}\n" for i, prompt in enumerate(prompts))
    (root / "training_data.csv").write_text(f"prompt,chosen,rejected,topic\n{rows}")
    settings = {"model_name": "m", "datasets_path": str(root), "validation_split": share}
    return read_pairs(Experiment.parse(settings), Reading(root))


@given(
    st.lists(st.sampled_from([f"p{n}" for n in range(12)]), min_size=2, max_size=60).filter(lambda found: len(set(found)) > 1),
    st.floats(0.01, 0.99),
)
def test_no_prompt_is_on_both_sides_and_neither_side_is_empty(prompts: list[str], share: float) -> None:
    flags = held_out(pairs(*prompts), share, "t.csv")
    held, kept = ({prompt for prompt, flag in zip(prompts, flags, strict=True) if flag == side} for side in (1, 0))
    assert held
    assert kept
    assert not held & kept


@given(st.integers(2, 200), st.floats(0.01, 0.99))
def test_of_different_prompts_the_share_is_exact_to_a_pair(count: int, share: float) -> None:
    flags = held_out(pairs(*(f"prompt {n}" for n in range(count))), share, "t.csv")
    assert sum(flags) == min(max(1, round(share * count)), count - 1)


def test_prompts_that_differ_in_case_spaces_and_marks_are_one() -> None:
    flags = held_out(pairs("Why is it so?", "why is  it so", "WHY IS IT SO!", "How?", "Where?", "When?"), 0.5, "t.csv")
    assert len(set(flags[:3])) == 1


def test_the_same_pairs_are_held_out_in_another_process_and_order() -> None:
    prompts = [f"prompt {n}" for n in range(20)]
    code = (
        "from launcher.data.held_out import held_out\nfrom launcher.data.text.pair import Pair\n"
        f"print(*held_out([Pair(None, p, 'a', 'b', 2) for p in reversed({prompts})], 0.3, 't.csv'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."}, capture_output=True, text=True, check=True
    )
    assert bytes(map(int, done.stdout.split()))[::-1] == held_out(pairs(*prompts), 0.3, "t.csv")


def test_rows_that_are_added_move_few_pairs_to_the_other_side() -> None:
    prompts = [f"prompt {n}" for n in range(200)]
    before = held_out(pairs(*prompts[:180]), 0.1, "t.csv")
    after = held_out(pairs(*prompts), 0.1, "t.csv")
    assert sum(one != other for one, other in zip(before, after, strict=False)) <= 4


def test_a_prompt_with_most_pairs_stays_in_the_training_data() -> None:
    flags = held_out(pairs(*["often"] * 8, "once", "twice", "twice"), 0.1, "t.csv")
    assert flags == bytes([0] * 8 + [1, 0, 0])


def test_pairs_of_one_prompt_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, "Hi", "hi", "Hi!")
    assert str(caught.value) == (
        "training_data.csv: all pairs have the same prompt, and validation_split holds out whole prompts\n"
        "    hint:     keep pairs with other prompts in a file of their own: validation_filename"
    )


def test_pairs_that_are_not_in_memory_are_divided_alike() -> None:
    many = pairs(*(f"prompt {n}" for n in range(30)))
    streamed = Streamed(len(many), lambda: iter(many))
    flags = held_out(streamed, 0.2, "t.csv")
    assert flags == held_out(many, 0.2, "t.csv")
    held, kept = chosen(streamed, flags), chosen(streamed, others(flags))
    assert isinstance(held, Streamed)
    assert isinstance(kept, Streamed)
    assert (tuple(held), tuple(kept)) == (chosen(many, flags), chosen(many, others(flags)))
    assert (len(held), len(kept), held[1]) == (6, 24, chosen(many, flags)[1])


def test_an_experiment_holds_out_a_share_of_its_training_pairs(tmp_path: Path) -> None:
    found = read(tmp_path, *(f"prompt {n}" for n in range(8)))
    assert (len(found.train), len(found.validation)) == (6, 2)
    assert sorted(pair.line for pair in (*found.train, *found.validation)) == list(range(2, 10))
    assert found.columns == {"topic": ("bread", "bread")}
    train, validation = found.sources
    assert train.sha256 == validation.sha256
    assert [(one.rows, one.json()["held_out"]) for one in found.sources] == [(6, 0.25), (2, 0.25)]
    assert found.rows == {train.name: 8}


def test_rules_compare_all_pairs_of_the_table_before_it_is_divided(tmp_path: Path) -> None:
    (tmp_path / "training_data.csv").write_text("prompt,chosen,rejected\nHi,a,b\nHi,b,a\nBye,a,b\nWhy,a,b\n")
    settings = {"model_name": "m", "datasets_path": str(tmp_path), "validation_split": 0.5}
    with pytest.raises(DataError, match=r"contradict|opposite"):
        read_pairs(
            Experiment.parse({**settings, "data_checks": {"contradiction": "error"}}),
            Reading(tmp_path),
        )
