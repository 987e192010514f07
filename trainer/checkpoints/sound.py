"""Whether a checkpoint still is what was written: its files are listed in ``origin.json``, with their sizes and SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from accelerate.utils import gather_object

from launcher.errors import ExperimentError, Mistake, Warned

from ..output import notices
from ..processes.bucket import has_own_runs
from .origin import FILE, read

HASHED: Final = 2 << 30  # bytes: of a larger file the size alone is compared, as hashing it would take as long as writing it
_THREADS: Final = 8


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file below ``folder``: its name there -> ``bytes``, and ``sha256`` in hex, None of a large one."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    with ThreadPoolExecutor(_THREADS) as pool:
        return {str(path.relative_to(folder)): found for path, found in zip(paths, pool.map(_of, paths), strict=True)}


def _of(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > HASHED:
        return {"bytes": size, "sha256": None}
    with path.open("rb") as file:
        return {"bytes": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def damage(checkpoint: Path) -> str | None:
    """What differs from what was written; None if nothing does, or if the checkpoint lists no files.

    All ranks must call this: the first one reads, or the first one of each node where the nodes share no folder.
    """
    found = _damage(checkpoint) if _reads() else None
    return next(filter(None, gather_object([found])), None)


def _reads() -> bool:
    return os.environ.get("LOCAL_RANK" if has_own_runs() else "RANK", "0") == "0"


def _damage(checkpoint: Path) -> str | None:
    try:
        written: Mapping[str, Any] = (read(checkpoint) or {}).get("files") or {}
    except ValueError:
        return f"{FILE} cannot be read"
    if missing := [name for name in written if not (checkpoint / name).is_file()]:
        return f"{missing[0]} is missing"
    with ThreadPoolExecutor(_THREADS) as pool:
        now = dict(zip(written, pool.map(_of, (checkpoint / name for name in written)), strict=True))
    for name, then in written.items():
        if now[name]["bytes"] != then["bytes"]:
            return f"{name} has {now[name]['bytes']:,} bytes, and was written with {then['bytes']:,}"
        if then["sha256"] is not None and now[name]["sha256"] != then["sha256"]:
            return f"{name} differs from what was written"
    return None


def sound(own: Sequence[Path]) -> list[Path]:
    """The checkpoints of the run up to the newest that is not damaged; newer ones are renamed, so that they are written again."""
    left = list(own)
    while left and (found := damage(left[-1])) is not None:
        path = left.pop()
        aside = path.with_name(f"damaged-{path.name}")
        then = f"resumes from {left[-1].name}" if left else "starts at the first step"
        if _reads():
            notices([Warned(f"{path.name} is damaged: {found}; it is kept as {aside.name}, and the run {then}")])
            path.rename(aside)
    return left


def check_sound(checkpoint: Path) -> Path:
    """``checkpoint``; raises ExperimentError if it is damaged. All ranks must call this."""
    if (found := damage(checkpoint)) is not None:
        what, hint = f"{checkpoint} is damaged: {found}", "resume from an older checkpoint, or from a copy of this one"
        raise ExperimentError(Mistake("hyperparameters.resume_from_checkpoint", what, hint=hint))
    return checkpoint
