"""``launcher init --recipe``: what it lists, and what it writes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import Launcher

NAME = "qwen3-0.6b-lora-8gb"
LAST = "Write one with: launcher init --recipe NAME"


def test_a_word_lists_the_recipes_that_have_it_and_writes_none(launcher: Launcher) -> None:
    code, out, err = launcher("init", "--recipe", "Llama-3.1")
    assert (code, err, list(Path().iterdir())) == (0, "", [])
    head, *rows, empty, last = out.splitlines()
    assert head.split() == ["name", "model", "method", "GPUs", "card", "memory"]
    assert [row.split()[0] for row in rows] == [
        "llama-3.1-8b-full-8x80gb",
        "llama-3.1-8b-lora-2x24gb",
        "llama-3.1-8b-lora-48gb",
        "llama-3.1-8b-qlora-16gb",
    ]
    assert rows[0].split()[1:6] == ["meta-llama/Llama-3.1-8B-Instruct", "full", "8", "80", "GB"]
    assert all(row.endswith(" GiB") for row in rows)
    assert (empty, last) == ("", LAST)


def test_without_a_name_all_are_listed_models_by_size_within_sixty_columns(tmp_path: Path) -> None:
    terminal, its = pty.openpty()
    env = {**os.environ, "COLUMNS": "60"}
    done = subprocess.Popen([sys.executable, "-m", "launcher", "init", "--recipe"], cwd=tmp_path, env=env, stdout=its)
    os.close(its)
    text = b""
    try:
        while part := os.read(terminal, 4096):
            text += part
    except OSError:  # the other end is closed
        pass
    assert done.wait(300) == 0
    os.close(terminal)
    lines = text.decode().splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["name", "GPUs", "card", "memory"]
    names = [line.split()[0] for line in lines[1:-2]]
    assert len(names) > 20
    assert names.index("qwen3-8b-qlora-12gb") < names.index("qwen3-32b-full-4x8x80gb")


@pytest.mark.parametrize("word", [NAME, "0.6b-lora"])
def test_a_name_or_the_only_one_that_a_word_means_is_written_with_its_next_commands(launcher: Launcher, word: str) -> None:
    code, out, err = launcher("init", "--recipe", word)
    assert (code, out.splitlines()[0], err) == (0, f"Wrote configs/{NAME}.yml.", "")
    assert out.splitlines()[-1].split() == ["launcher", "run", NAME, "train"]
    text = Path("configs", f"{NAME}.yml").read_text(encoding="utf-8")
    first, rest = text.split("\n", 1)
    assert first == "# yaml-language-server: $schema=.dpo-schema.json"
    assert Path("configs/.dpo-schema.json").is_file()
    written = yaml.safe_load(rest)
    assert list(written) == [NAME]
    assert (written[NAME]["model_name"], written[NAME]["datasets_path"]) == ("Qwen/Qwen3-0.6B", "data/my_preferences")
    rows = "prompt,chosen,rejected\nWhy is it?,Because it is.,No.\nHow is it?,It is so.,What?\n"
    Path("data/my_preferences").mkdir(parents=True)
    for role, rows_of in (("training", rows), ("validation", rows.replace("is it", "are they"))):
        Path(f"data/my_preferences/{role}_data.csv").write_text(rows_of, encoding="utf-8")
    code, out, err = launcher("check", NAME)
    assert (code, out.split(" (")[0], err) == (0, f"{NAME}  2 training pairs, 2 validation pairs", "")


def test_a_recipe_for_several_nodes_is_submitted(launcher: Launcher) -> None:
    _, out, _ = launcher("init", "--recipe", "4x8x80gb")
    assert out.splitlines()[-1].split()[:3] == ["launcher", "submit", "qwen3-32b-full-4x8x80gb"]


def test_a_recipe_in_a_file_of_another_name_is_called_as_the_file(launcher: Launcher) -> None:
    code, out, _ = launcher("init", "mine/first.yml", "--recipe", NAME)
    assert (code, "launcher run first -f mine/first.yml" in out) == (0, True)
    written = yaml.safe_load(Path("mine/first.yml").read_text(encoding="utf-8"))
    assert (list(written), written["first"]["experiment_id"]) == (["first"], "first")


def test_a_recipe_never_overwrites(launcher: Launcher) -> None:
    launcher("init", "--recipe", NAME)
    code, _, err = launcher("init", "--recipe", NAME)
    other = f"name another file: launcher init configs/mine.yml --recipe {NAME}"
    assert (code, err) == (2, f"error: configs/{NAME}.yml already exists; {other}\n")


def test_an_unknown_recipe_is_an_error_with_the_nearest_name(launcher: Launcher) -> None:
    assert launcher("init", "--recipe", "qwen3-0.6b-lora-9gb") == (
        2,
        "",
        f"error: unknown recipe 'qwen3-0.6b-lora-9gb' (did you mean '{NAME}'?); list them with: launcher init --recipe\n",
    )
