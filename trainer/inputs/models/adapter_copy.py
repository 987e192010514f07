"""A run's copy of the adapter that it started from, which may be changed or deleted later."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from accelerate.utils import gather_object

from launcher.errors import Warned
from launcher.runs.run_dir import RunDir
from launcher.runs.whole import sync_tree

from ...output import stage
from .starting import FILES, Start, hashes

_LEFT: Final = 1 << 30  # bytes to leave free on the run's disk
_ASIDE: Final = ".start"  # temporary name of a copy that is being written


def keep(run: RunDir, start: Start) -> list[str]:
    """Copies the adapter and its tokenizer into the run's folder, and records its hashes. Warns if that fails."""
    if start.folder == run.start:
        return []
    files = [path for path in start.folder.iterdir() if path.is_file() and any(fnmatch(path.name, name) for name in FILES)]
    size = sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(run.path).free
    if size + _LEFT > free:
        what = f"the adapter {start.name} has {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free in {run.path}"
        return [Warned(f"{what}: it is not copied; keep it to resume or repeat this run")]
    try:
        with stage(f"copying the adapter, {size / 2**30:.1f} GiB"):
            return _copied(run, start, files)
    except OSError as error:
        shutil.rmtree(run.path / _ASIDE, ignore_errors=True)
        why = (error.strerror or str(error)).lower()
        return [Warned(f"cannot copy the adapter {start.name} into {run.start}: {why}; keep it to resume or repeat this run")]


def _copied(run: RunDir, start: Start, files: list[Path]) -> list[str]:
    aside = run.path / _ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for path in files:
        shutil.copyfile(path, aside / path.name)
    if hashes(aside) != start.sha256:
        shutil.rmtree(aside)
        return [Warned(f"the adapter {start.name} changed while it was read: the run has no copy")]
    sync_tree(aside)
    # A copy without its hashes in the record is not used.
    run.update_record(adapter={**(run.read_record().get("adapter") or {}), **start.json()})
    shutil.rmtree(run.start, ignore_errors=True)
    aside.rename(run.start)
    return []


def kept(run: RunDir, *, together: bool = False) -> tuple[Path | None, list[str]]:
    """(folder of the copy or None, a warning if its files differ from the record).

    ``together``: all ranks call it, and all or none have the copy.
    """
    recorded = (RunDir(run.path).read_record().get("adapter") or {}).get("sha256")  # the first node keeps the copy
    said: list[str] = []
    found = run.start if recorded and run.start.is_dir() else None
    if found is not None and hashes(found) != recorded:
        found, said = None, [Warned(f"{run.start} was changed since the run started: the adapter is read again")]
    if together and not all(gather_object([found is not None])):
        found = None
    return found, said
