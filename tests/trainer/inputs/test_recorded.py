from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.data.pairs import Pairs, Source
from launcher.errors import DataError, ExperimentError, Warned
from launcher.runs.run_dir import RunDir
from trainer.inputs.recorded import check_recorded_adapter, check_recorded_data, check_recorded_model

SOURCE = {"role": "train", "name": "data/train.csv", "sha256": "a" * 64, "rows": 3}


def run_of(folder: Path, **again: Any) -> RunDir:
    run = RunDir(folder / "second")
    run.path.mkdir()
    run.update_record(again={"of": "first", "anyway": False, **again})
    return run


def pairs(sha256: str) -> Pairs:
    return Pairs((), (), (Source("train", "other.csv", sha256, 3),), ())


def test_a_repetition_trains_on_the_recorded_data_only(tmp_path: Path) -> None:
    run = run_of(tmp_path, data=[SOURCE])
    assert check_recorded_data(run, pairs("a" * 64)) == []
    with pytest.raises(DataError, match=r"train data: the data differ from those of first\n.*aaaaaaaaaaaa\n.*bbbbbbbbbbbb\n"):
        check_recorded_data(run, pairs("b" * 64))


def test_a_repetition_trains_the_recorded_weights_only(tmp_path: Path) -> None:
    run = run_of(tmp_path, model={"identity": "a" * 64, "revision": "c" * 40})
    assert check_recorded_model(run, {"identity": "a" * 64, "revision": "d" * 40}) == []
    with pytest.raises(ExperimentError) as caught:
        check_recorded_model(run, {"identity": "b" * 64, "revision": "d" * 40})
    assert str(caught.value).splitlines() == [
        "model_name: the base weights differ from those of first",
        "    expected: weights aaaaaaaaaaaa (revision cccccccccccc)",
        "    found:    weights bbbbbbbbbbbb (revision dddddddddddd)",
        "    hint:     restore the model's files",
    ]


def test_a_repetition_starts_from_the_recorded_files_of_the_adapter_only(tmp_path: Path) -> None:
    files = {"adapter_model.safetensors": "a" * 64}
    run = run_of(tmp_path, adapter={"name": "me/sft", "sha256": files})
    assert check_recorded_adapter(run, {"sha256": files}) == []
    with pytest.raises(ExperimentError) as caught:
        check_recorded_adapter(run, {"sha256": {"adapter_model.safetensors": "b" * 64}})
    assert str(caught.value).splitlines() == [
        "adapter: the adapter's files differ from those of first",
        "    expected: adapter_model.safetensors aaaaaaaaaaaa",
        "    found:    adapter_model.safetensors bbbbbbbbbbbb",
        "    hint:     restore the files of me/sft",
    ]


def test_with_anyway_they_are_warnings(tmp_path: Path) -> None:
    run = run_of(tmp_path, anyway=True, data=[SOURCE], model={"identity": "a" * 64})
    (data,) = check_recorded_data(run, pairs("b" * 64))
    (model,) = check_recorded_model(run, {"identity": "b" * 64, "revision": None})
    assert isinstance(data, Warned)
    what = "the base weights differ from those of first"
    assert model == Warned(f"{what}: recorded weights aaaaaaaaaaaa, found weights bbbbbbbbbbbb")


def test_a_run_that_repeats_none_is_not_checked(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "plain")
    assert check_recorded_data(run, pairs("b" * 64)) == check_recorded_model(run, {"identity": "b" * 64}) == []
