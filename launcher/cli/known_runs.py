"""The runs below a working directory: finding one by what a person calls it, and saying how it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from ..backends import Named, is_over
from ..config import read_files
from ..errors import ExperimentError, UsageError, nearest
from ..follow import Metric, Reader
from ..run_dir import RunDir, expanded, find_runs
from ..yaml_nodes import data
from .backends import backend_of

DEFAULT_OUTPUT: Final = "data/dpo/model"
R = TypeVar("R", bound=Named)


class AmbiguousName(UsageError):
    """More than one run may be meant."""


@dataclass(frozen=True)
class Known:
    """How one run is, in the words of ``ps`` and ``status``; times are UTC in ISO form.

    ``rate`` is pairs a second, ``left`` the number of seconds to the last step at that rate. ``namespace`` is a cluster's.
    """

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
    rate: float | None = None
    left: float | None = None
    nodes: int = 1
    namespace: str | None = None

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_over(self) -> bool:
        return is_over(self.state)

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
        if not self.created:
            return "-"
        end = datetime.fromisoformat(self.ended) if self.ended else datetime.now(UTC)
        return duration((end - datetime.fromisoformat(self.created)).total_seconds())


def known(run: RunDir) -> Known:
    """How ``run`` is now."""
    backend = backend_of(run)
    now = backend.status(run)  # first: it may complete the record
    record = run.read_record()
    pairs = _pairs_a_step(record)
    last = newest_metric(backend.tail(run), pairs)
    return Known(
        run=run.name,
        experiment=str(record.get("key", "-")),
        state=now.state,
        exit_code=now.exit_code,
        sentence=now.sentence,
        **progress(last, pairs, is_over=now.is_over),
        created=_created(run),
        ended=(record.get("outcome") or {}).get("ended"),
        folder=str(run.path),
        nodes=int(((record.get("experiment") or {}).get("launch") or {}).get("nodes") or 1),
    )


def progress(last: Metric | None, pairs_a_step: int | None, *, is_over: bool) -> dict[str, Any]:
    """Step, loss, speed and what is left, as the fields of Known."""
    rate = last.rate if last is not None and not is_over else None
    left = None
    if last is not None and rate and last.total and pairs_a_step:
        left = max(0, last.total - last.step) * pairs_a_step / rate
    return {
        "step": last.step if last else None,
        "total_steps": last.total if last else None,
        "loss": last.number("loss") if last else None,
        "rate": rate,
        "left": left,
    }


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


def last_metric(run: RunDir) -> Metric | None:
    """The last training line of a run's metrics; without one the last line of any kind."""
    return newest_metric(backend_of(run).tail(run))


def newest_metric(lines: Iterable[str], pairs_a_step: int | None = None) -> Metric | None:
    """The same of any lines among which metrics are."""
    reader = Reader(pairs_a_step)
    metrics = [event for line in lines for event in reader.feed(f"{line}\n") if isinstance(event, Metric)]
    train = [metric for metric in metrics if metric.kind == "train"]
    if not train:
        return metrics[-1] if metrics else None
    # After an evaluation a line has no speed of its own: it is that of the line before.
    rate = next((metric.rate for metric in reversed(train) if metric.rate is not None), None)
    return replace(train[-1], rate=rate)


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


def _pairs_a_step(record: Mapping[str, Any]) -> int | None:
    """The global batch, from the experiment in a record."""
    experiment = record.get("experiment") or {}
    said = (experiment.get("launch") or {}).get("global_batch_size")
    h = experiment.get("hyperparameters") or {}
    micro, times = h.get("per_device_train_batch_size"), h.get("gradient_accumulation_steps")
    if said is None and isinstance(micro, int) and isinstance(times, int):
        return micro * times
    return said if isinstance(said, int) else None
