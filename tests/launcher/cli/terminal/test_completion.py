"""What a shell completes; asked as a shell asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = """\
exp_1: {experiment_id: 1, topic: bread, model_name: m, datasets_path: d}
other: {experiment_id: 2, model_name: m, datasets_path: d}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "e.yml").write_text(FILE)
    return tmp_path


def launcher(home: Path, *args: str, **env: str) -> str:
    argv = [sys.executable, "-c", "from launcher.cli import main; main()", *args]
    root = str(Path(__file__).parents[4])
    return subprocess.run(
        argv, cwd=home, env={**os.environ, "PYTHONPATH": root, **env}, capture_output=True, text=True, check=True
    ).stdout


def completed(home: Path, words: str) -> list[str]:
    env = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_LAUNCHER_COMPLETE": "bash_complete"}
    return [line.partition(",")[2] for line in launcher(home, **env).splitlines() if line]


def test_experiments_settings_and_their_choices_complete(home: Path) -> None:
    assert completed(home, "launcher check ") == ["exp_1", "other"]
    assert completed(home, "launcher plan ex") == ["exp_1"]
    assert completed(home, "launcher check exp_1 --set hyperparameters.compi") == ["hyperparameters.compile="]
    assert completed(home, "launcher check exp_1 --set hyperparameters.compile=l") == ["hyperparameters.compile=layers"]
    assert completed(home, "launcher run exp_1 --backend ") == ["host", "docker", "kubernetes"]


def test_nothing_completes_where_a_file_is_wrong_and_nothing_is_printed(home: Path) -> None:
    (home / "configs" / "e.yml").write_text("exp_1: [")
    assert completed(home, "launcher check ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_the_launcher(home: Path, shell: str) -> None:
    assert f"_LAUNCHER_COMPLETE={shell}_complete" in launcher(home, "completion", shell)
