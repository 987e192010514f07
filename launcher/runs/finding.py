"""The runs below a working directory, and which of them a person means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

from ..errors import ExperimentError, UsageError, nearest
from ..experiment.files import read_files
from ..experiment.yaml_nodes import data
from .run_dir import RunDir, expanded, find_runs

DEFAULT_OUTPUT: Final = "data/dpo/model"


class Named(Protocol):
    """What every run has, wherever it is."""

    @property
    def name(self) -> str: ...


R = TypeVar("R", bound=Named)


class AmbiguousName(UsageError):
    """More than one run may be meant."""


def output_dirs(root: Path) -> list[Path]:
    """Where runs may be: the folder of every experiment in the files below ``root``, mistakes or not, and the default one."""
    named = {DEFAULT_OUTPUT}
    with suppress(ExperimentError):  # no file at all: runs may be there all the same
        for found in read_files(root).found:
            section = data(found.node).get("hyperparameters")
            named.add(str(section.get("model_output_dir", DEFAULT_OUTPUT)) if isinstance(section, dict) else DEFAULT_OUTPUT)
    return [root / expanded(name) for name in sorted(named)]


def newest_first(output_dirs: Iterable[Path], more: Iterable[Path] = ()) -> list[RunDir]:
    """Every run below the given output folders, and those in the folders ``more``, by the time of their creation."""
    found = {*find_runs(list(output_dirs)), *(RunDir(folder) for folder in more if (folder / "run.json").is_file())}
    return sorted(found, key=created, reverse=True)


def choose(name: str, runs: Sequence[RunDir]) -> RunDir:
    """The run on this machine that a person means: as ``fitting`` says, or by its folder."""
    if "/" in name and (Path(name) / "run.json").is_file():
        return RunDir(Path(name).resolve())
    return fitting(name, runs, _experiment_names, lambda run: str(run.path))


def fitting(name: str, runs: Sequence[R], experiments: Callable[[R], set[str]], place: Callable[[R], str], option: str = "") -> R:
    """The run that a person means, of ``runs``, the newest first: its name, ``latest``, an experiment (its newest run), or a
    unique beginning. ``option`` is what the verbs take where these runs are.

    Raises UsageError if none fits, AmbiguousName if more than one does.
    """
    if not runs:
        raise UsageError(f"there is no run yet: `launcher run EXP{option}` makes one")
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
        raise AmbiguousName(f"{name!r} may be any of these runs:\n" + "\n".join(f"    {place(run)}" for run in fits[:10]))
    names = {run.name for run in runs} | {name for run in runs for name in experiments(run)}
    hint = nearest(name, names) or f"the newest is {runs[0].name}; `launcher ps{option} -a` lists all"
    raise UsageError(f"there is no run {name!r}: {hint}")


def created(run: RunDir) -> str:
    created = run.read_record().get("created")
    if isinstance(created, str):
        return created
    # A run that was started by hand, from what `render` printed, has no such line.
    return datetime.fromtimestamp(run.experiment.stat().st_mtime, UTC).isoformat(timespec="milliseconds")


def _experiment_names(run: RunDir) -> set[str]:
    record = run.read_record()
    return {str(record[name]) for name in ("key", "experiment_id") if name in record}
