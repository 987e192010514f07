"""The commands that add the packages for training fit the way in which the launcher was installed."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from launcher import packages
from launcher.packages import EXTRAS, adding, installation, missing_packages

CPU = "https://download.pytorch.org/whl/cpu"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An environment."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return tmp_path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "python3.11" / "site-packages" / "launcher"


def test_packages_that_cannot_be_imported_are_missing() -> None:
    assert missing_packages(["json", "no_such_package", "click"]) == ["no_such_package"]


def test_pip_installs_into_the_environment_that_is_active(prefix: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prefix / "bin" / "pip").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{prefix / 'bin'}:/usr/bin")
    found = installation(prefix, package)
    assert found.cpu == f"pip install 'dpo-launcher[trainer]' --extra-index-url {CPU}"
    assert found.cuda == "pip install 'dpo-launcher[trainer,cuda]'"
    assert str(found).splitlines() == [f"    without a GPU:  {found.cpu}", f"    with a GPU:     {found.cuda}"]


def test_the_pip_of_an_environment_that_is_not_active_is_named_with_its_python(
    prefix: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    assert installation(prefix, package).cuda == f"{sys.executable} -m pip install 'dpo-launcher[trainer,cuda]'"


def test_an_environment_of_uv_has_no_pip(prefix: Path, package: Path) -> None:
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.13.9\n")
    found = installation(prefix, package)
    assert found.cpu == f"uv pip install --python {prefix} --torch-backend cpu 'dpo-launcher[trainer]'"
    assert found.cuda == f"uv pip install --python {prefix} 'dpo-launcher[trainer,cuda]'"


def test_a_tool_of_uv_is_installed_again_with_the_packages(prefix: Path, package: Path) -> None:
    (prefix / "uv-receipt.toml").write_text("[tool]\n")
    found = installation(prefix, package)
    assert found.cpu == "uv tool install --torch-backend cpu 'dpo-launcher[trainer]'"
    assert found.cuda == "uv tool install 'dpo-launcher[trainer,cuda]'"


def test_uvx_repeats_what_was_typed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["launcher", "run", "my exp"])
    found = installation(Path("/home/you/.cache/uv/archive-v0/asx0nlccYbWyKmsd"), package)
    assert found.cpu == "uvx --torch-backend cpu --from 'dpo-launcher[trainer]' launcher run 'my exp'"
    assert found.cuda == "uvx --from 'dpo-launcher[trainer,cuda]' launcher run 'my exp'"


def test_pipx_installs_its_environment_again(prefix: Path, package: Path) -> None:
    (prefix / "pipx_metadata.json").write_text("{}")
    found = installation(prefix, package)
    assert found.cpu == f"pipx install --force --pip-args='--extra-index-url {CPU}' 'dpo-launcher[trainer]'"
    assert found.cuda == "pipx install --force 'dpo-launcher[trainer,cuda]'"


def test_a_checkout_is_installed_itself(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("PATH", "/usr/bin")
    pip = f"{sys.executable} -m pip install -e"
    assert installation(prefix, tmp_path / "launcher").cuda == f"{pip} '{tmp_path}[trainer,cuda]'"
    monkeypatch.chdir(tmp_path)
    assert installation(prefix, tmp_path / "launcher").cpu == f"{pip} '.[trainer]' --extra-index-url {CPU}"


def test_an_extra_is_added_to_an_environment_that_has_the_launcher(
    prefix: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prefix / "bin" / "pip").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{prefix / 'bin'}:/usr/bin")
    assert adding("trackers", prefix=prefix, package=package) == "pip install 'dpo-launcher[trackers]'"
    assert adding("huggingface_hub", "pyarrow", prefix=prefix, package=package) == "pip install huggingface_hub pyarrow"


@pytest.mark.parametrize(
    ("file", "trackers", "pyarrow"),
    [
        (
            "uv-receipt.toml",
            "uv tool install --torch-backend cpu 'dpo-launcher[trainer,trackers]'",
            "uv tool install --torch-backend cpu 'dpo-launcher[trainer]' --with pyarrow",
        ),
        (
            "pipx_metadata.json",
            f"pipx install --force --pip-args='--extra-index-url {CPU}' 'dpo-launcher[trainer,trackers]'",
            "pipx inject dpo-launcher pyarrow",
        ),
    ],
)
def test_an_extra_is_added_to_a_tool_with_the_extras_that_it_has(
    prefix: Path, package: Path, monkeypatch: pytest.MonkeyPatch, file: str, trackers: str, pyarrow: str
) -> None:
    (prefix / file).touch()
    there = EXTRAS["trainer"]
    monkeypatch.setattr(packages, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(packages, "version", lambda name: "2.13.0+cpu")
    assert adding("trackers", prefix=prefix, package=package) == trackers
    assert adding("pyarrow", prefix=prefix, package=package) == pyarrow


def test_uvx_adds_an_extra_without_what_a_training_process_was_started_with(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/cache/trainer/__main__.py", "out/runs/first"])
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    found = adding("trackers", prefix=Path("/home/you/.cache/uv/archive-v0/asx0nlcc"), package=package)
    assert found == "uvx --from 'dpo-launcher[trackers]' launcher …"


def test_the_extras_are_those_of_the_project_and_only_this_module_writes_their_commands() -> None:
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, shown_by in EXTRAS.items():
        packaged = " ".join(extras[name]).replace("mlflow-skinny", "mlflow")
        assert all(re.search(rf"\b{one}\b", packaged) for one in shown_by)
    sources = [file for room in ("launcher", "trainer") for file in (root / room).rglob("*.py") if file.name != "packages.py"]
    assert [str(file) for file in sources if re.search(r"install[^\n]*dpo-launcher\[", file.read_text())] == []
