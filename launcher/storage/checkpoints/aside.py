"""A run's own files beside its checkpoints, set aside for an upload: what a resume on another machine needs, and its logs.

Files that are appended to are copied as they are now; the others are replaced whole, and linked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from ...runs.run_dir import RunDir

MIRROR: Final = ".mirror"  # in a run's folder: what is set aside
_APPENDED: Final = ("logs/*", "logs_tensorboard/*")
_WHOLE: Final = (
    "run.json", "node-*.json", "experiment.json", "deepspeed.json", "data/*.json", "data/read/*", "attempt-*/*.json",
    "attempt-*/node-*", "evaluation/*", "report.html",
)  # fmt: skip


def set_run_aside(run: RunDir, target: Path) -> Path:
    """Fills the new folder ``target`` with the run's files, and returns it."""
    for name, is_appended in _files(run):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if is_appended:
            shutil.copyfile(run.path / name, place)
        else:
            _link(run.path / name, place)
    return target


def set_folder_aside(folder: Path, target: Path, names: Collection[str] | None = None) -> None:
    """Links all files below ``folder`` (or only ``names``), which must not change, into the new folder ``target``."""
    for name in sorted(names_below(folder) if names is None else names):
        path, place = folder / name, target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        _link(path, place)


def names_below(folder: Path) -> list[str]:
    """The names of all files, relative to ``folder``."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _files(run: RunDir) -> Iterator[tuple[str, bool]]:
    """Names, and whether each is appended to."""
    for patterns, is_appended in ((_WHOLE, False), (_APPENDED, True)):
        for pattern in patterns:
            found = (path for path in run.path.glob(pattern) if path.is_file())
            yield from ((path.relative_to(run.path).as_posix(), is_appended) for path in found)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, target)
