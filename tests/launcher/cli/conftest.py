"""A command line that is typed in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cli import main

Launcher = Callable[..., tuple[int, str, str]]


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Launcher:
    """Types a command line in an empty directory; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def type_in(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return type_in
