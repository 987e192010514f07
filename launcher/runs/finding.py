"""Finding runs below a working directory, and the one that a name means."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

from ..errors import ExperimentError, UsageError, nearest
from ..experiment.files import read_files
from ..experiment.text.yaml_nodes import data
from .run_dir import RunDir, expanded, find_runs

DEFAULT_OUTPUT: Final = "data/dpo/model"
ELSEWHERE: Final = f"{DEFAULT_OUTPUT}/elsewhere"  # links to the runs in other output folders, which no experiment file may name


class Named(Protocol):
    """What every run has, wherever it is."""

    @property
    def name(self) -> str: ...


R = TypeVar("R", bound=Named)


class AmbiguousName(UsageError):
    """The name matches more than one run."""


def output_dirs(root: Path) -> list[Path]:
    """The output folders of every experiment in the files below ``root``, also of those with mistakes, and the default one."""
    named = {DEFAULT_OUTPUT}
    with suppress(ExperimentError):  # without experiment files runs may exist all the same
        for found in read_files(root).found:
            section = data(found.node).get("hyperparameters")
            named.add(str(section.get("model_output_dir", DEFAULT_OUTPUT)) if isinstance(section, dict) else DEFAULT_OUTPUT)
    return [root / expanded(name) for name in sorted(named)]


def remember(root: Path, run: RunDir) -> str | None:
    """Leaves a link to a run outside the default output folder of ``root``, so that its name is found; before it is created.

    Returns a notice if the link cannot be written.
    """
    if run.shelf.parent.parent.resolve() == (root / DEFAULT_OUTPUT).resolve():
        return None
    link, target = root / ELSEWHERE / run.name, run.path.resolve()
    if all(path.is_relative_to(root.resolve()) for path in (target, link.parent.resolve())):  # which may be moved as a whole
        target = Path(os.path.relpath(target, link.parent.resolve()))
    aside = link.with_name(f".{run.name}-{os.getpid()}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        aside.symlink_to(target)
        aside.replace(link)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return f"cannot write {link}: {reason}; name the run by its folder: launcher status {shlex.quote(str(run.path))}"
    return None


def remembered(root: Path) -> list[Path]:
    """The folders of the runs that :func:`remember` has left a link to."""
    return [link.resolve() for link in (root / ELSEWHERE).glob("*") if link.is_symlink()]


def newest_first(output_dirs: Iterable[Path], more: Iterable[Path] = ()) -> list[RunDir]:
    """Every run below the output folders, and those in the folders ``more``, once each, newest first."""
    found: dict[Path, RunDir] = {}
    for run in (*find_runs(list(output_dirs)), *(RunDir(folder) for folder in more if (folder / "run.json").is_file())):
        found.setdefault(run.path.resolve(), run)
    return sorted(found.values(), key=created, reverse=True)


def choose(name: str, runs: Sequence[RunDir]) -> RunDir:
    """The run on this machine that ``name`` means, by the rules of ``fitting`` or as its folder."""
    if "/" in name and (Path(name) / "run.json").is_file():
        return RunDir(Path(name).resolve())
    return fitting(name, runs, _experiment_names, lambda run: str(run.path))


def fitting(name: str, runs: Sequence[R], experiments: Callable[[R], set[str]], place: Callable[[R], str], option: str = "") -> R:
    """The run that ``name`` means: its name, ``latest``, an experiment's key or id (its newest run), or a unique beginning.

    ``runs`` are sorted, newest first. ``option`` is the option of the verbs for these runs. Raises UsageError if none fits,
    AmbiguousName if more than one does.
    """
    if not runs:
        raise UsageError(f"no runs yet; start one with: launcher run EXP{option}")
    same = [run for run in runs if run.name == name]
    if name == "latest":
        return runs[0]
    of_experiment = [run for run in runs if name in experiments(run)]
    if not same and of_experiment:
        return of_experiment[0]
    fits = same or [run for run in runs if run.name.startswith(name)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise AmbiguousName(
            f"{name!r} matches several runs; type more of the name:\n" + "\n".join(f"    {place(run)}" for run in fits[:10])
        )
    names = {run.name for run in runs} | {name for run in runs for name in experiments(run)}
    hint = nearest(name, names) or f"the newest is {runs[0].name}; list all with: launcher ps{option} -a"
    raise UsageError(f"run {name!r} not found: {hint}")


def created(run: RunDir) -> str:
    """When the run was created, UTC in ISO form."""
    created = run.read_record().get("created")
    if isinstance(created, str):
        return created
    # A run started by hand, from the output of `launcher render`, has no such entry.
    return datetime.fromtimestamp(run.experiment.stat().st_mtime, UTC).isoformat(timespec="milliseconds")


def _experiment_names(run: RunDir) -> set[str]:
    record = run.read_record()
    return {str(record[name]) for name in ("key", "experiment_id") if name in record}
