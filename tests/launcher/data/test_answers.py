"""The data of method: sft: the chosen answers alone, also from a column called answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, read_pairs, write_processed
from launcher.data.tables.reading import Reading
from launcher.data.text.pair import Pair
from launcher.errors import DataError
from launcher.experiment.schema import Experiment


def read(root: Path, train: str, **settings: Any) -> Pairs:
    (root / "training_data.csv").write_text(train, encoding="utf-8")
    experiment = Experiment.parse({"model_name": "m", "datasets_path": str(root), "method": "sft", **settings})
    return read_pairs(experiment, Reading(root))


def test_data_of_dpo_give_their_chosen_answers(tmp_path: Path) -> None:
    pairs = read(tmp_path, "prompt,chosen,rejected\nHi,good,bad\nBye,same,same\n")
    assert pairs.train == (Pair(None, "Hi", "good", None, 2), Pair(None, "Bye", "same", None, 3))
    assert pairs.mapped == ("prompt", "chosen")


def test_a_file_without_rejected_answers_is_enough(tmp_path: Path) -> None:
    assert read(tmp_path, "prompt,chosen\nHi,good\n").train == (Pair(None, "Hi", "good", None, 2),)


def test_a_column_called_answer_is_taken_where_there_is_no_chosen_and_that_is_said(tmp_path: Path) -> None:
    pairs = read(tmp_path, "prompt,answer\nHi,good\n")
    assert pairs.train == (Pair(None, "Hi", "good", None, 2),)
    assert pairs.mapped == ("prompt", "answer")
    assert [one for one in pairs.notices if "answers come from column 'answer', as it has no column 'chosen'" in one]
    both = read(tmp_path, "prompt,answer,chosen\nHi,other,good\n")
    assert both.train[0].chosen == "good"


@pytest.mark.parametrize(
    "mapping", [{"chosen": "reply"}, {"label_columns": "reply"}, {"chosen": "reply", "rejected": "a column that is missing"}]
)
def test_a_mapping_names_the_column(tmp_path: Path, mapping: dict[str, str]) -> None:
    pairs = read(tmp_path, "prompt,answer,reply\nHi,other,good\n", dpo_column_mapping_config=mapping)
    assert pairs.train == (Pair(None, "Hi", "good", None, 2),)
    assert not any("answers come from" in one for one in pairs.notices)


def test_several_columns_make_one_answer_of_json(tmp_path: Path) -> None:
    mapping = {"chosen": {"a": "one", "b": "two"}}
    pairs = read(tmp_path, "prompt,one,two\nHi,1,2\n", dpo_column_mapping_config=mapping)
    assert pairs.train[0].chosen == '{"a": "1", "b": "2"}'


def test_without_any_answers_the_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing column 'chosen'"):
        read(tmp_path, "prompt,rejected\nHi,bad\n")


def test_rendered_pairs_have_no_rejected_answer(tmp_path: Path) -> None:
    (file,) = write_processed(read(tmp_path, "prompt,chosen\nHi,good\n"), tmp_path / "out")
    assert json.loads(file.read_text()) == {"system": None, "user": "Hi", "chosen": "good", "rejected": None, "line": 2}
