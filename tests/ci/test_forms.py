"""What `make lint` finds in the files that GitHub reads."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def check() -> Callable[[Path], bool]:
    spec = importlib.util.spec_from_file_location("forms", REPOSITORY / ".ci" / "forms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.check  # type: ignore[no-any-return]


def test_a_mistake_in_each_kind_of_file_is_found(
    check: Callable[[Path], bool], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(REPOSITORY / ".github", tmp_path / ".github")
    shutil.copy(REPOSITORY / "CITATION.cff", tmp_path)
    assert check(tmp_path)
    files = ("workflows/ci.yml", "ISSUE_TEMPLATE/config.yml", "ISSUE_TEMPLATE/bug.yml", "dependabot.yml", "../CITATION.cff")
    for name in files:
        with (tmp_path / ".github" / name).open("a") as file:
            file.write("\nno_such_key: 1\n")
    capfd.readouterr()
    assert not check(tmp_path)
    said = capfd.readouterr().out
    assert [name for name in files if Path(name).name not in said] == []
