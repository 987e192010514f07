"""The commands that add the packages for training fit the way in which the launcher was installed."""

import sys
from pathlib import Path

import pytest

from launcher.packages import installation, missing_packages

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
