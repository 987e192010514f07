"""Compares runs: settings that differ, metrics and cost, and what makes metrics incomparable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import UsageError, Warned, nearest
from ..experiment.other_tools.method import DPO
from ..runs.learned.intervals import mean
from ..runs.learned.pair_rewards import PairReward
from .reported import Reported
from .settings import differing, settings, short, shown


@dataclass(frozen=True)
class Figure:
    """A metric of a run, with its 95 % interval if computed."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, found: Any) -> Figure:
        """From a number, or from {"value", "low", "high"}; without a value for anything else."""
        if isinstance(found, Mapping):
            return cls(_number(found.get("value")), _number(found.get("low")), _number(found.get("high")))
        return cls(_number(found))

    def text(self, spec: str) -> str:
        if self.value is None:
            return "-"
        said = format(self.value, spec)
        if self.low is None or self.high is None:
            return said
        return f"{said} [{format(self.low, spec)}, {format(self.high, spec)}]"

    def json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Column:
    """One metric of every run: its key in JSON and CSV, its name in the table, its format, and how to read it from a run and
    the first one of the table.

    ``best`` orders runs: the highest or the lowest value comes first. ``is_ranked``: the best one is marked; a larger reward is
    not better in itself.
    """

    key: str
    name: str
    spec: str
    read: Callable[[Reported, Reported], Figure]
    best: Callable[..., Any] = max
    is_ranked: bool = True


def _validation(name: str, logged: str) -> Callable[[Reported, Reported], Figure]:
    def read(run: Reported, first: Reported) -> Figure:
        """Of the saved weights, else of the last evaluation."""
        learned = (run.learned.get("after") or {}).get(name)
        if learned is not None:
            return Figure.of(learned)
        after = run.result.get("after")
        return Figure.of(after.get(logged) if after else run.evals.last(logged))

    return read


def _more(value: Callable[[PairReward, float], float], *, in_rewards: bool) -> Callable[[Reported, Reported], Figure]:
    """How much higher ``value`` is on the same validation pairs than in the first run, with Student's t interval: much narrower
    than the two runs' own intervals suggest, because pairs are hard or easy for both.
    """

    def read(run: Reported, first: Reported) -> Figure:
        mine, theirs = run.pairs or (), first.pairs or ()
        is_same = [pair.row for pair in mine] == [pair.row for pair in theirs] and _validation_set(run) == _validation_set(first)
        if run is first or not mine or not is_same or (in_rewards and _beta(run) != _beta(first)):
            return Figure(None)
        noise = [float(one.learned.get("noise") or 0) for one in (run, first)]
        more = [value(one, noise[0]) - value(other, noise[1]) for one, other in zip(mine, theirs, strict=True)]
        return Figure.of(mean(more).json())

    return read


COLUMNS: Final = (
    Column("accuracy", "accuracy", ".3f", _validation("accuracy", "eval_rewards/accuracies")),
    Column("margin", "margin", "+z.3f", _validation("margin", "eval_rewards/margins"), is_ranked=False),
    Column(
        "accuracy_to_first",
        "accuracy to 1st",
        "+z.3f",
        _more(lambda pair, noise: float(pair.margin > noise), in_rewards=False),
        is_ranked=False,
    ),
    Column("margin_to_first", "margin to 1st", "+z.3f", _more(lambda pair, _: pair.margin, in_rewards=True), is_ranked=False),
    Column("chosen", "chosen reward", "+z.3f", _validation("chosen", "eval_rewards/chosen"), is_ranked=False),
    Column("rejected", "rejected reward", "+z.3f", _validation("rejected", "eval_rewards/rejected"), min, is_ranked=False),
    Column("eval_loss", "validation loss", "z.4f", _validation("loss", "eval_loss"), min),
    Column("train_loss", "train loss", "z.4f", lambda run, _: Figure.of(run.train_loss), min),
    Column("pairs_per_second", "pairs/s", ".1f", lambda run, _: Figure.of(run.pairs_per_second)),
    Column("hours", "hours", ".2f", lambda run, _: Figure.of(None if run.seconds is None else run.seconds / 3600), min),
    Column("gpu_hours", "GPU-hours", ".2f", lambda run, _: Figure.of(run.gpu_hours), min),
)


_OF_VALIDATION: Final = ("accuracy", "margin", "chosen", "rejected", "eval_loss")


@dataclass(frozen=True)
class Comparison:
    """``differences``: each setting that differs with its value in every run. ``notices``: what makes figures incomparable."""

    runs: tuple[Reported, ...]
    differences: Mapping[str, tuple[Any, ...]]
    figures: Mapping[str, tuple[Figure, ...]]
    notices: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[Reported], sort: str | None = None) -> Comparison:
        """``sort``: a figure (its best run first) or a setting (ascending), ``-`` before it for the reverse; else as given.

        Raises UsageError for a ``sort`` that neither is.
        """
        ordered = tuple(runs) if sort is None else _sorted(runs, sort)
        figures = {column.key: tuple(column.read(run, ordered[0]) for run in ordered) for column in COLUMNS}
        return cls(ordered, differing(ordered), figures, tuple(_notices(ordered)))

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Label and a cell for each run: state, step, the settings that differ, then the figures that any run has."""
        names = short([name for name in self.differences if not name.startswith("packages.")])
        head = [("state", *map(state, self.runs)), ("step", *map(progress, self.runs))]
        differing = [(names[name], *map(shown, self.differences[name])) for name in names]
        packages = [name for name in self.differences if name.startswith("packages.")]
        differing += [(name.removeprefix("packages."), *map(shown, self.differences[name])) for name in packages]
        return [*head, *differing, *self.figure_rows]

    @property
    def figure_rows(self) -> list[tuple[str, ...]]:
        return [
            (column.name, *(figure.text(column.spec) for figure in self.figures[column.key]))
            for column in COLUMNS
            if any(figure.value is not None for figure in self.figures[column.key]) and not self._is_without_gpus(column)
        ]

    def _is_without_gpus(self, column: Column) -> bool:
        return column.key == "gpu_hours" and not any(figure.value for figure in self.figures[column.key])

    def best(self, column: Column) -> int | None:
        """The place of the run with the best figure; None if the table shows two such, or figures are not comparable."""
        figures = self.figures[column.key]
        known = [figure for figure in figures if figure.value is not None]
        if len(known) < 2 or not column.is_ranked or (column.key in _OF_VALIDATION and not self.is_one_validation_set):
            return None
        best = column.best(known, key=lambda figure: figure.value)
        equal = [place for place, figure in enumerate(figures) if figure.value is not None and _alike(figure, best, column)]
        return equal[0] if len(equal) == 1 else None

    @property
    def is_one_validation_set(self) -> bool:
        return len(set(map(_validation_set, self.runs))) == 1

    def json(self) -> dict[str, Any]:
        return {"runs": [self._run(number) for number in range(len(self.runs))], "notices": list(map(str, self.notices))}

    def _run(self, number: int) -> dict[str, Any]:
        run = self.runs[number]
        return {
            "run": run.name,
            "experiment": run.record.get("key"),
            "state": run.status.state,
            "exit_code": run.status.exit_code,
            "step": run.step,
            "total_steps": run.total_steps,
            "created": run.created,
            "folder": str(run.run.path),
            "settings": {name: values[number] for name, values in self.differences.items()},
            "figures": {key: figures[number].json() for key, figures in self.figures.items()},
            "data": {role: source.get("sha256") for role, source in run.sources.items()},
        }

    def table(self) -> list[list[Any]]:
        """For a spreadsheet: a row for each run below the names of the columns, numbers in full."""
        head = ["run", "experiment", "state", "step", *self.differences]
        head += [name for column in COLUMNS for name in (column.key, f"{column.key}_low", f"{column.key}_high")]
        rows = []
        for number, run in enumerate(self.runs):
            values = [_cell(values[number]) for values in self.differences.values()]
            numbers = [one for figures in self.figures.values() for one in figures[number].json().values()]
            rows.append([run.name, run.record.get("key"), run.status.state, run.step, *values, *numbers])
        return [head, *rows]


def state(run: Reported) -> str:
    code = run.status.exit_code
    return run.status.state if code in (None, 0) else f"{run.status.state} ({code})"


def progress(run: Reported) -> str:
    return str(run.step) if run.total_steps is None else f"{run.step}/{run.total_steps}"


def _sorted(runs: Sequence[Reported], sort: str) -> tuple[Reported, ...]:
    key, is_reversed = sort.removeprefix("-"), sort.startswith("-")
    column = next((column for column in COLUMNS if key in (column.key, column.name)), None)
    if column is not None:
        values: list[Any] = [column.read(run, runs[0]).value for run in runs]
    else:
        name = _setting(runs, key)
        values = [settings(run).get(name) for run in runs]
    numeric = all(isinstance(value, int | float) for value in values if value is not None)
    known = [(value if numeric else shown(value), run) for value, run in zip(values, runs, strict=True) if value is not None]
    is_descending = column is not None and column.best is max
    known.sort(key=lambda pair: pair[0], reverse=is_descending != is_reversed)
    unknown = [run for value, run in zip(values, runs, strict=True) if value is None]  # at the end, however runs are sorted
    return (*(run for _, run in known), *unknown)


def _setting(runs: Sequence[Reported], key: str) -> str:
    names = list(dict.fromkeys(name for run in runs for name in settings(run)))
    found = [name for name in names if name == key or name.rpartition(".")[2] == key]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"--sort {key}: matches several settings: {', '.join(found)}")
    words = {column.key for column in COLUMNS} | {name.rpartition(".")[2] for name in names}
    hint = nearest(key, words) or f"a metric ({', '.join(column.key for column in COLUMNS)}) or a setting"
    raise UsageError(f"--sort {key}: unknown key; {hint}")


def _notices(runs: Sequence[Reported]) -> Iterator[str]:
    """What makes metrics of different runs incomparable."""
    named = (("train", "training data"), ("validation", "validation sets"), ("prompts", "prompts"))
    for role, what in named:
        found = {run.name: _content(run, role) for run in runs}
        if len(set(found.values())) > 1:
            which = ", ".join(f"{name}: {content}" for name, content in found.items())
            effect = (
                "their validation metrics are not comparable"
                if role == "validation"
                else "metrics also differ because of the data"
            )
            yield Warned(f"{what} differ ({which}): {effect}")
    for name, effect in (
        ("method", "their losses are not comparable, and SFT has no rewards"),
        ("beta", "rewards and margins are multiples of beta; compare accuracies"),
        ("loss_type", "losses are not comparable"),
        ("model_name", "log-probabilities and losses are those of different models"),
        ("adapter", "log-probabilities and losses are those of trainings that start from different adapters"),
    ):
        values = [settings(run).get(name, settings(run).get(f"hyperparameters.{name}")) for run in runs]
        if name == "method":
            values = [value or DPO for value in values]  # a run of an earlier version has none
        if len({shown(value) for value in values}) > 1:
            yield Warned(f"{name} differs: {effect}")
    for run in runs:
        if run.status.state != "done":
            evaluated = f"; its validation metrics are of step {run.evals.steps[-1]}" if len(run.evals) else ""
            yield f"{run.name} is {state(run)} at step {progress(run)}{evaluated}"


def _validation_set(run: Reported) -> str | None:
    return _content(run, "validation") if run.sources.get("validation") else None


def _content(run: Reported, role: str) -> str:
    """What ``run`` has read as ``role``: its hash, and the share of its pairs that were held out."""
    source = run.sources.get(role) or {}
    share = source.get("held_out")
    return str(source.get("sha256", "none"))[:12] + ("" if share is None else f" with validation_split: {share}")


def _beta(run: Reported) -> Any:
    return settings(run).get("hyperparameters.beta")


def _alike(one: Figure, other: Figure, column: Column) -> bool:
    return format(one.value, column.spec) == format(other.value, column.spec)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else shown(value)
