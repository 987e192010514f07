"""What `pip install dpo-launcher` brings: the same bytes from one commit, all that a folder outside a checkout needs, no more."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import click
import pytest

from launcher.packages import TRAINING
from tests.run_folders import Made

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
    recipes = {f"launcher/recipes/{file.name}" for file in (REPOSITORY / "configs" / "recipes").iterdir()}
    assert recipes <= names
    assert len(recipes) > 20
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"launcher", "trainer", "dpo_launcher-0.1.0.dist-info"}


def test_an_index_shows_the_readme_with_links_that_lead_out_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        description = archive.read("dpo_launcher-0.1.0.dist-info/METADATA").decode()
    links = re.findall(r"\]\(([^)]+)\)", description)
    version = "https://github.com/dpo-launcher/dpo-launcher/{}/v0.1.0/"
    assert {version.format("raw") + "docs/images/demo.svg", version.format("blob") + "docs/tutorial/first-run.md"} <= set(links)
    assert [link for link in links if not link.startswith("https://")] == []


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
        (["init", "--recipe", "qwen3-0.6b-lora-8gb"], "Wrote configs/qwen3-0.6b-lora-8gb.yml."),
        (["plan", "qwen3-0.6b-lora-8gb", "--gpu", "RTX 4060"], "verdict     fits"),
    ],
)
def test_an_installation_works_outside_a_checkout(installed, home: Path, arguments: list[str], expected: str) -> None:
    done = installed(home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert expected in done.stdout


# What trains on this machine, or asks the trainer for something. Those on runs need a folder of weights only.
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("run exp_1 --backend host", "training on this machine"),
        ("demo", "training on this machine"),
        ("chat weights --backend host", "chat"),
        ("generate weights --data data/training_data.csv --output out.jsonl --backend host", "generate"),
        ("score one --data data/training_data.csv --backend host", "score"),
        ("merge weights --output merged --backend host", "merge"),
    ],
)
def test_without_the_packages_for_training_the_command_that_installs_them_is_told(
    bare: Bare, prepared: Path, arguments: str, what: str
) -> None:
    done = bare(prepared, *arguments.split())
    pip = f"{bare.prefix}/bin/python -m pip install"
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            f"error: {what} needs {', '.join(TRAINING)}, which dpo-launcher[trainer] installs",
            f"    without a GPU:  {pip} 'dpo-launcher[trainer]' --extra-index-url https://download.pytorch.org/whl/cpu",
            f"    with a GPU:     {pip} 'dpo-launcher[trainer,cuda]'",
        ],
    )


def test_outside_a_checkout_a_container_and_a_pod_have_the_published_image(bare: Bare, prepared: Path) -> None:
    image = "ghcr.io/dpo-launcher/dpo-launcher:0.1.0-cpu"
    for where in ("--backend", "docker"), ("--cluster", "--set=launch.gpus=0"):
        done = bare(prepared, "render", "exp_1", *where)
        assert done.returncode == 0, done.stderr
        assert f"# image {image}: published with dpo-launcher 0.1.0" in done.stdout
        assert done.stdout.count(image) > 1


def test_outside_a_checkout_an_image_is_not_built_and_the_way_to_one_is_told(bare: Bare, home: Path) -> None:
    done = bare(home, "build", "--variant", "cpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: build needs a checkout of https://github.com/dpo-launcher/dpo-launcher",
        "    hint:     git clone --branch v0.1.0 https://github.com/dpo-launcher/dpo-launcher && cd dpo-launcher"
        " && python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/launcher build",
        "    or:       runs take ghcr.io/dpo-launcher/dpo-launcher:0.1.0-cpu where launch.image is not set",
    ]


class Bare:
    """The launcher of the wheel in an environment with its own dependencies and without those of ``[trainer]``."""

    def __init__(self, prefix: Path, wheel: Path) -> None:
        self.prefix = prefix
        venv.create(prefix, with_pip=False)
        site = next(prefix.glob("lib/python*/site-packages"))
        for package in Path(click.__file__).parents[1].iterdir():
            if re.split(r"\W", package.name)[0].lower() not in TRAINING and "dpo_launcher" not in package.name:
                (site / package.name).symlink_to(package)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)

    def __call__(self, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.prefix / "bin" / "python", "-m", "launcher", *arguments]
        env = {**os.environ, "PATH": "/usr/bin:/bin", "DOCKER_HOST": "unix:///no/such/engine"}
        return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    return Bare(tmp_path_factory.mktemp("environment") / "bare", wheel)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, its data, a run, and an adapter from elsewhere."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("configs", "data", "weights"):
        (folder / name).mkdir()
    (folder / "configs" / "e.yml").write_text("exp_1:\n  experiment_id: 1\n  model_name: org/model\n  datasets_path: data\n")
    (folder / "data" / "training_data.csv").write_text("prompt,chosen,rejected\nWhere is it?,Here.,There.\n")
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "org/model", "r": 8, "target_modules": ["q_proj"]}
    (folder / "weights" / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "weights" / "adapter_model.safetensors").write_bytes(b"")
    run = Made("one").write(folder)
    shutil.copytree(folder / "weights", run.adapter)
    return folder
