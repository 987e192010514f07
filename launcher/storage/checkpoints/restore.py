"""Restores a run from ``checkpoint_to``: its newest checkpoint and, in a fresh folder, its metrics, logs and record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ...errors import ExperimentError, Mistake, StorageError, Warned
from ...runs.run_dir import RunDir
from ..client.explained import is_of_disk
from ..progress import Listener
from .mirrored import RUN, START, Mirrored

ARRIVING: Final = ".arriving"  # in a run's folder: what is downloaded and not in its place yet
# Of a run's own files those that an older folder of the same run must not keep: they end at an older step.
_NEWER: Final = ("logs/dpo_train_steps.jsonl",)
_OWN: Final = ("process", "folder", "backend", "image", "code", "cluster", "container", "outcome", "started", "hardware")


def restore(run: RunDir, mirrored: Mirrored, say: Callable[[str], None], listener: Listener | None = None) -> int | None:
    """Restores the newest complete checkpoint into the run's folder, if it is newer than the folder's; returns its step.

    Also restores the run's copy of the adapter that it started from, if the folder has none. Downloads aside, compares hashes
    and renames: a checkpoint in the folder is always complete. A damaged or meanwhile removed checkpoint is skipped with a
    warning for the next older one. ``say`` gets notices and warnings. Raises ExperimentError if the place belongs to another
    run of this name, StorageError if this machine's disk fails (the copies are good), and what ``Mirrored.fetch`` raises for
    a server that does not answer.
    """
    own, found = max(map(_step, run.checkpoints()), default=0), mirrored.steps()
    if found:
        _check_same_run(run, mirrored, found[-1], has_own=bool(own))
    if found and own >= found[-1]:
        say(f"the run's folder has checkpoint-{own}; {mirrored.uri} has checkpoint-{found[-1]}")
        _restore_adapter(run, mirrored, say)
    for step in reversed([step for step in found if step > own]):
        try:
            folder = _fetch(run, mirrored, step, listener)
        except (StorageError, ExperimentError) as error:
            if is_of_disk(error.__cause__):
                raise
            say(Warned(f"checkpoint-{step} in {mirrored.uri} cannot be used: {error}"))
            continue
        restored = _move_in(run, folder, step)
        first = RunDir(run.path)
        if mirror := first.read_record().get("mirror"):
            first.update_record(mirror={**mirror, "step": step, "failed": None})
        _restore_best(run, mirrored, step, found, say)
        _restore_adapter(run, mirrored, say)
        shutil.rmtree(run.path / ARRIVING, ignore_errors=True)
        say(f"downloaded checkpoint-{step} from {mirrored.uri}" + (", with metrics and record" if restored else ""))
        return step
    return None


def _check_same_run(run: RunDir, mirrored: Mirrored, step: int, *, has_own: bool) -> None:
    """Raises ExperimentError if the place holds checkpoints of another run with the same name."""
    mine = (RunDir(run.path).read_record().get("mirror") or {}).get("id")
    if mine is None and not has_own:
        return  # a fresh folder continues what is there
    body = mirrored.read(f"checkpoint-{step}/{RUN}/{RunDir(run.path).record.name}")
    theirs = (json.loads(body).get("mirror") or {}).get("id") if body is not None else None
    if theirs != mine:
        raise ExperimentError(
            Mistake(
                "checkpoint_to",
                f"{mirrored.uri} holds checkpoints of another run named {run.name}",
                "a separate place for each run",
                hint="start this run with another --name, or set another checkpoint_to",
            )
        )


def _fetch(run: RunDir, mirrored: Mirrored, step: int, listener: Listener | None) -> Path:
    folder = run.path / ARRIVING / f"checkpoint-{step}"
    shutil.rmtree(folder, ignore_errors=True)  # a complete one was not taken; parts of a download lie beside it and are kept
    mirrored.fetch(step, folder, listener)
    return folder


def _move_in(run: RunDir, folder: Path, step: int) -> bool:
    """Moves a checkpoint into its place, and before it the run's files that came with it; returns whether there were any."""
    files = folder / RUN
    has_files = files.is_dir()
    if has_files:
        _add_files(run, files)
        shutil.rmtree(files)
    folder.rename(run.path / folder.name)
    return has_files


def _restore_best(run: RunDir, mirrored: Mirrored, step: int, found: list[int], say: Callable[[str], None]) -> None:
    """Restores the best checkpoint, if it is not the newest: the end of the training may load it."""
    state = json.loads((run.path / f"checkpoint-{step}" / "trainer_state.json").read_text(encoding="utf-8"))
    best = state.get("best_global_step")
    if not best or best not in found or (run.path / f"checkpoint-{best}").exists():
        return
    try:
        folder = _fetch(run, mirrored, best, None)
    except (StorageError, ExperimentError) as error:
        say(Warned(f"the best checkpoint so far, checkpoint-{best} in {mirrored.uri}, cannot be used: {error}"))
        return
    shutil.rmtree(folder / RUN, ignore_errors=True)
    folder.rename(run.path / folder.name)


def _restore_adapter(run: RunDir, mirrored: Mirrored, say: Callable[[str], None]) -> None:
    """Restores the run's copy of the adapter that it started from: its reference needs it, and this machine may lack it."""
    adapter = RunDir(run.path).read_record().get("adapter") or {}
    if not adapter.get("sha256") or run.start.is_dir():
        return
    try:
        mirrored.fetch_folder(START, run.path / ARRIVING / START).folder.rename(run.start)
    except (StorageError, ExperimentError) as error:
        if is_of_disk(error.__cause__):
            raise
        what = f"no copy of the adapter {adapter.get('name')} in {mirrored.uri}: it is read from where the run started"
        say(Warned(f"{what} ({str(error).splitlines()[0]})"))


def _add_files(run: RunDir, files: Path) -> None:
    """Adds the files to the run's folder; what the folder has stays, unless it ends at an older step.

    Metrics, logs and attempts are those of the first node.
    """
    first = RunDir(run.path)
    record = files / first.record.name
    if record.is_file():
        then = json.loads(record.read_text(encoding="utf-8"))
        first.update_record(**dict(_merged(then, first.read_record())))
    if run.node:
        return
    for path in sorted(path for path in files.rglob("*") if path.is_file()):
        name = path.relative_to(files).as_posix()
        target = run.path / name
        if name in (run.record.name, run.experiment.name):
            continue
        if target.exists() and name not in _NEWER:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def _merged(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The record's fields that come from the bucket: what this folder's lacks, and the run's beginning and attempts."""
    yield from ((name, value) for name, value in then.items() if name not in now and name not in _OWN)
    if then.get("created"):
        yield "created", then["created"]
    attempts = [*(then.get("attempts") or [])]
    if len(attempts) > len(now.get("attempts") or []):
        yield "attempts", attempts


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
