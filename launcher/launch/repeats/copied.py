"""Resumes another machine's run here: its folder is made from its copies in ``checkpoint_to``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import ExperimentError, LauncherError, UsageError, Warned, labelled

if TYPE_CHECKING:
    from ...experiment.schema import Experiment
    from ...runs.run_dir import RunDir
    from ...storage import Mirrored
    from ..sweeps.found import Swept

_HERE: Final = ("host", "docker")
_ALIKE: Final = 0.75  # similarity of two names, from 0 to 1 (difflib's ratio)


def found_or_brought(name: str, *, cluster: bool, namespace: str | None, say: Callable[[str], None]) -> Swept | tuple[Any, Any]:
    """What ``found.find`` finds, or the folder of a run that only a bucket has. Raises like ``find``.

    No bucket is read for a name that looks like a known one with a typing error.
    """
    from ...backends.status.finding import local_runs
    from ...runs.finding import AmbiguousName
    from ..sweeps.found import find

    try:
        return find(name, cluster=cluster, namespace=namespace)
    except AmbiguousName:
        raise
    except UsageError:
        if cluster or namespace is not None or _is_typo(name, [run.name for run in local_runs()]):
            raise
        if brought_back(name, say) is None:
            raise
    return find(name, cluster=cluster, namespace=namespace)


def brought_back(name: str, say: Callable[[str], None]) -> RunDir | None:
    """The folder of the run ``name``, made from its copies; None if no experiment of the files has copies of such a run.

    Writes only what the start needs; the run downloads its checkpoint itself. Raises UsageError for a cluster's run, and what
    ``Mirrored.record`` raises if no bucket can be read.
    """
    from ...experiment.files import read_env
    from ...runs.run_dir import RunDir
    from ...storage import Mirrored

    caller, failures = read_env(Path.cwd()), list[LauncherError]()
    for experiment in _asked(name):
        place = Mirrored.of(experiment, name, caller)
        assert place is not None, "it has checkpoint_to"
        try:
            inside = place.newest_files()
        except LauncherError as error:
            failures.append(error)
            continue
        if inside is None:
            continue
        record = json.loads(place.read(f"{inside}/run.json") or b"{}")
        _check(name, record, place)
        folder = experiment.hyperparameters.model_output_dir
        run = RunDir.of(Path.cwd(), folder, experiment.experiment_id, experiment.model_folder, name)
        texts = {file: place.read(f"{inside}/{file.name}") for file in (run.experiment, run.deepspeed)}
        run.create({file: text.decode() for file, text in texts.items() if text is not None}, _own(record, run))
        state = (record.get("outcome") or {}).get("state")
        if state in ("starting", "running"):
            host = (record.get("process") or {}).get("host", "another machine")
            say(labelled(Warned(f"{name} ran on {host} when its checkpoint was copied; two of them would overwrite each other")))
        say(f"{name}: its copies are in {place.uri}; made {run.path}")
        return run
    if failures:
        raise failures[0]
    return None


def with_copies(experiment: Experiment, run: RunDir, checkpoints: list[str]) -> list[str]:
    """Names of the run's complete checkpoints, oldest first, in its folder or in its copies."""
    from ...experiment.files import read_env
    from ...storage import Mirrored

    place = Mirrored.of(experiment, run.name, read_env(Path.cwd()))
    if place is None:
        return checkpoints
    try:
        found = {*checkpoints, *(f"checkpoint-{step}" for step in place.steps())}
    except LauncherError:
        return checkpoints
    return sorted(found, key=lambda name: int(name.removeprefix("checkpoint-")))


def _is_typo(name: str, known: list[str]) -> bool:
    """Whether a known name differs in a few letters and in no digit, because digits distinguish runs."""
    from difflib import get_close_matches

    same = [one for one in known if re.findall(r"\d+", one) == re.findall(r"\d+", name)]
    return bool(get_close_matches(name, same, n=1, cutoff=_ALIKE))


def _asked(name: str) -> list[Experiment]:
    """The experiments that may have copies of the run ``name``; only one if the name begins with its key."""
    there = list(_with_copies())
    named = [one for key, one in there if name.startswith(f"{key}-")]
    return named or [one for _, one in there]


def _with_copies() -> Iterator[tuple[str, Experiment]]:
    """(key, experiment) of each experiment in the files with ``checkpoint_to``."""
    from ...experiment.files import check_files

    try:
        found = check_files(Path.cwd())
    except ExperimentError:
        return
    for one in found.experiments:
        if one.loaded is not None and one.loaded.experiment.checkpoint_to is not None:
            yield one.loaded.key, one.loaded.experiment


def _check(name: str, record: dict[str, Any], place: Mirrored) -> None:
    if record.get("backend") in _HERE:
        return
    key = record.get("key", "EXP")
    where = "submit" if record.get("backend") == "kubernetes" else "run"
    raise UsageError(
        f"{name}: its copies in {place.uri} are of a run with backend {record.get('backend')}\n"
        f"    hint:     resume it with: launcher {where} {key} --name {name}"
    )


def _own(record: dict[str, Any], run: RunDir) -> dict[str, Any]:
    """The record for a run that is not running on this machine."""
    outcome = record.get("outcome") or {}
    if outcome.get("state") in ("starting", "running"):
        outcome = {"state": "lost", "exit_code": 137, "sentence": "its machine is gone"}
    return {**record, "folder": str(run.path), "process": None, "outcome": outcome}
