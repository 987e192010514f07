"""What `pip install dpo-launcher` brings: the same bytes from one commit, all that a folder outside a checkout needs, no more."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def test_two_builds_of_one_commit_have_the_same_bytes(wheel: Path, build_wheel, tmp_path: Path) -> None:
    build_wheel(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"dpo_launcher-0.1.0-py3-none-any.whl", "dpo_launcher-0.1.0.tar.gz"}
    for file in tmp_path.iterdir():
        assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256((wheel.parent / file.name).read_bytes()).digest(), (
            file.name
        )


def test_an_index_takes_the_wheel_and_the_source(wheel: Path) -> None:
    files = map(str, wheel.parent.glob("dpo_launcher-*"))
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 2), done.stdout + done.stderr


def test_the_wheel_holds_the_packages_with_their_types_and_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "launcher", "trainer"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    )
    assert set(tracked.stdout.split()) <= names
    assert {"launcher/py.typed", "trainer/py.typed", "launcher/deepspeed/zero3.json", "launcher/demo/configs/demo.yml"} <= names
    assert "launcher/demo/configs/demo/everyday/training_data.csv" in names
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"launcher", "trainer", "dpo_launcher-0.1.0.dist-info"}


def test_the_source_is_what_git_has(wheel: Path) -> None:
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert names == set(tracked.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["init"], "Wrote configs/experiments.yml."),
        (["list"], "my_experiment  my_experiment  Qwen/Qwen3-0.6B"),
        (["schema"], '"hyperparameters"'),
    ],
)
def test_an_installation_works_outside_a_checkout(installed, home: Path, arguments: list[str], expected: str) -> None:
    done = installed(home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert expected in done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")
