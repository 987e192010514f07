"""The demo: an experiment and data from this package, and a small model that is made on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..errors import LauncherError

KEY: Final = "demo"
EXPERIMENT: Final = Path("configs", "demo.yml")
DATA: Final = Path("configs", "demo", "everyday")
MODEL: Final = Path("data", "demo", "qwen3-tiny")
_TEXT_OF_THE_MODEL: Final = "training_data.csv"


def write_files(root: Path) -> list[Path]:
    """Copies the demo's files that are missing below ``root``, and returns their relative paths. Overwrites nothing.

    Raises LauncherError if a file cannot be written.
    """
    source = _packaged()
    wanted = [EXPERIMENT, *(DATA / file.name for file in sorted((source / DATA).iterdir()))]
    missing = [path for path in wanted if not (root / path).exists()]
    for path in missing:
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, root / path)
        except OSError as error:
            raise LauncherError(f"cannot write {path}: {error.strerror}") from error
    return missing


def make_model(root: Path, caller: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Makes the demo's model below ``root`` if it is missing. That takes about half a minute in its own process.

    Needs the trainer's packages. Raises LauncherError if the process fails.
    """
    if (root / MODEL / "config.json").is_file():
        return
    say(f"making the demo's model in {MODEL}: once, about a minute")
    command = [sys.executable, "-m", "trainer.inputs.demo.model", str(MODEL), str(DATA / _TEXT_OF_THE_MODEL)]
    ended = subprocess.run(command, cwd=root, env={**os.environ, **caller, "DS_ACCELERATOR": "cpu"}, check=False)
    if ended.returncode:
        raise LauncherError(f"the demo's model was not made: `python -m trainer.inputs.demo.model` ended with {ended.returncode}")


def _packaged() -> Path:
    """The folder with the demo's ``configs``: a checkout, or installed files."""
    here = Path(__file__).parents[1]
    return next(folder for folder in (here.parent, here / "demo") if (folder / EXPERIMENT).is_file())
