"""The runs below a working directory: finding one by what a person calls it, and saying how it is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..config import read_files
from ..errors import ExperimentError, UsageError, nearest
from ..follow import Metric, parse
from ..run_dir import RunDir, expanded, find_runs
from ..yaml_nodes import data
from .backends import backend_of

DEFAULT_OUTPUT: Final = "data/dpo/model"
_TAIL: Final = 1 << 16


@dataclass(frozen=True)
class Known:
    """How one run is, in the words of ``ps`` and ``status``; times are UTC in ISO form."""

    run: str
    experiment: str
    state: str
    exit_code: int | None
    sentence: str | None
    step: int | None
    total_steps: int | None
    loss: float | None
    created: str
    ended: str | None
    folder: str

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_over(self) -> bool:
        return self.state not in ("starting", "running", "unknown")

    @property
    def progress(self) -> str:
        if self.step is None:
            return "-"
        return str(self.step) if self.total_steps is None else f"{self.step}/{self.total_steps}"

    @property
    def took(self) -> str:
        """From the start to the end, or to now while it runs."""
        if self.ended is None and self.is_over:
            return "-"
        end = datetime.fromisoformat(self.ended) if self.ended else datetime.now(UTC)
        return duration((end - datetime.fromisoformat(self.created)).total_seconds())


def known(run: RunDir) -> Known:
    """How ``run`` is now."""
    now = backend_of(run).status(run)  # first: it may complete the record
    record, last = run.read_record(), last_metric(run)
    return Known(
        run=run.name,
        experiment=str(record.get("key", "-")),
        state=now.state,
        exit_code=now.exit_code,
        sentence=now.sentence,
        step=last.step if last else None,
        total_steps=last.total if last else None,
        loss=last.number("loss") if last else None,
        created=_created(run),
        ended=(record.get("outcome") or {}).get("ended"),
        folder=str(run.path),
    )


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
    return sorted(found, key=_created, reverse=True)


def choose(name: str, runs: list[RunDir]) -> RunDir:
    """The run that a person means: its name, ``latest``, an experiment (its newest run), a unique beginning, or its folder.

    Raises UsageError if none fits, or more than one.
    """
    if "/" in name and (Path(name) / "run.json").is_file():
        return RunDir(Path(name).resolve())
    if not runs:
        raise UsageError("there is no run yet: `launcher run EXP` makes one")
    same = [run for run in runs if run.name == name]
    if name == "latest":
        return runs[0]
    of_experiment = [run for run in runs if name in _experiment_names(run)]
    if not same and of_experiment:
        return of_experiment[0]
    fitting = same or [run for run in runs if run.name.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f"{name!r} may be any of these runs:\n" + "\n".join(f"    {run.path}" for run in fitting[:10]))
    names = {run.name for run in runs} | {name for run in runs for name in _experiment_names(run)}
    hint = nearest(name, names) or f"the newest is {runs[0].name}; `launcher ps -a` lists all"
    raise UsageError(f"there is no run {name!r}: {hint}")


def last_metric(run: RunDir) -> Metric | None:
    """The last training line of a run's metrics; without one the last line of any kind."""
    if not run.steps.is_file():
        return None
    with run.steps.open("rb") as file:
        file.seek(max(0, run.steps.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    metrics = [metric for line in reversed(lines) if (metric := parse(line)) is not None]
    return next((metric for metric in metrics if metric.kind == "train"), metrics[0] if metrics else None)


def duration(seconds: float) -> str:
    """``41 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _created(run: RunDir) -> str:
    created = run.read_record().get("created")
    if isinstance(created, str):
        return created
    # A run that was started by hand, from what `render` printed, has no such line.
    return datetime.fromtimestamp(run.experiment.stat().st_mtime, UTC).isoformat(timespec="milliseconds")


def _experiment_names(run: RunDir) -> set[str]:
    record = run.read_record()
    return {str(record[name]) for name in ("key", "experiment_id") if name in record}
