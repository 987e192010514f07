"""What `launcher demo` brings into a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.launch import demo

REPOSITORY = Path(__file__).parents[3]
FILES = ["configs/demo.yml", "configs/demo/everyday/training_data.csv", "configs/demo/everyday/validation_data.csv"]


def test_an_empty_folder_gets_the_demos_files(tmp_path: Path) -> None:
    assert list(map(str, demo.write_files(tmp_path))) == FILES
    assert [(tmp_path / file).read_bytes() for file in FILES] == [(REPOSITORY / file).read_bytes() for file in FILES]


def test_a_file_that_a_person_changed_is_kept(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/demo.yml").write_text("mine")
    assert list(map(str, demo.write_files(tmp_path))) == FILES[1:]
    assert (tmp_path / "configs/demo.yml").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "configs").write_text("a file where the folder belongs")
    with pytest.raises(LauncherError, match=r"cannot write configs/demo\.yml: "):
        demo.write_files(tmp_path)


def test_a_model_that_cannot_be_made_is_an_error_with_the_process_and_its_code(tmp_path: Path) -> None:
    with pytest.raises(
        LauncherError, match=r"the demo's model was not made: `python -m trainer\.inputs\.demo\.model` ended with 1"
    ):
        demo.make_model(tmp_path, {"PYTHONPATH": str(REPOSITORY)}, print)  # no training data in this folder
