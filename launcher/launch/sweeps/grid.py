"""Sweep: an experiment over a grid of settings. Its points are separate runs, ``<sweep>-<number>``. Reads only files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ...errors import ExperimentError, Mistake, UsageError, Warned
from ...experiment.other_tools.method import SFT
from ...runs.names import check_run_name, new_run_name
from ..rendered import Choice

if TYPE_CHECKING:
    from ...experiment.loaded import Loaded
    from ...runs.known import Known

MOST: Final = 1000  # points per grid
_FEW: Final = 3  # names per sentence
_BY_TRAINING: Final = 2  # rank of points without validation pairs
_OPEN: Final = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Point:
    """One point of a grid. ``settings``: one ``KEY=VALUE`` per axis. ``number``: counts from 1."""

    number: int
    settings: tuple[str, ...]

    def __str__(self) -> str:
        pairs = (setting.partition("=") for setting in self.settings)
        return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, _, value in pairs)


@dataclass(frozen=True)
class Sweep:
    """``choice``: the experiment without a run's name. ``axes``: each ``--sweep`` as typed."""

    name: str
    choice: Choice
    axes: tuple[str, ...]
    points: tuple[Point, ...]

    def run(self, point: Point) -> str:
        return f"{self.name}-{point.number}"

    def choice_of(self, point: Point) -> Choice:
        """The choice that would start this point alone."""
        return replace(self.choice, overrides=(*self.choice.overrides, *point.settings), run_name=self.run(point))

    def note(self, point: Point, **more: Any) -> Mapping[str, Any]:
        """The entry ``sweep`` in the record of the point's run; the sweep is continued from it."""
        file = None if self.choice.file is None else str(self.choice.file)
        entry = {
            "name": self.name,
            "point": point.number,
            "settings": list(point.settings),
            "axes": list(self.axes),
            "experiment": self.choice.experiment,
            "set": list(self.choice.overrides),
            "file": file,
            **more,
        }
        return MappingProxyType({"sweep": entry})


def in_words(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``, ``a, b, c and 5 others``."""
    *first, last = names if len(names) <= _FEW + 1 else [*names[:_FEW], f"{len(names) - _FEW} others"]
    return f"{', '.join(first)} and {last}" if first else last


def not_ended(names: Sequence[str]) -> str:
    return f"{in_words(names)} {'has' if len(names) == 1 else 'have'} not ended"


def plan_sweep(choice: Choice, axes: Sequence[str]) -> Sweep:
    """The grid of ``axes``, each ``KEY=VALUE,VALUE…``; the last axis varies fastest. ``choice.run_name``: the sweep's name.

    Raises UsageError for an axis without values, a repeated key, and more than 1,000 points.
    """
    values = [_values(axis) for axis in axes]
    keys = [key for key, _ in values]
    fixed = {one.partition("=")[0] for one in choice.overrides}
    for key in keys:
        if keys.count(key) > 1 or key in fixed:
            raise UsageError(f"--sweep {key}: the key is given twice" + (" (see --set)" if key in fixed else ""))
    grid = list(itertools.islice(itertools.product(*([f"{key}={one}" for one in ones] for key, ones in values)), MOST + 1))
    if len(grid) > MOST:
        raise UsageError(f"--sweep: the grid must have at most {MOST:,} points")
    name = check_run_name(choice.run_name or new_run_name(choice.experiment))
    points = tuple(Point(number, settings) for number, settings in enumerate(grid, 1))
    check_run_name(f"{name}-{len(points)}")
    return Sweep(name, replace(choice, run_name=None), tuple(axes), points)


def of_record(entry: Mapping[str, Any]) -> Sweep:
    """The sweep in the entry ``sweep`` of a run's record."""
    file = None if entry["file"] is None else Path(entry["file"])
    return plan_sweep(Choice(entry["experiment"], tuple(entry["set"]), entry["name"], file), entry["axes"])


def load_points(sweep: Sweep) -> list[Loaded]:
    """The checked experiment of each point.

    Raises ExperimentError with every mistake of every point, each once, and UsageError if two points are the same experiment.
    """
    from ...experiment.files import load, read_env
    from ...job.starting import paired_loaded

    found, mistakes = list[Any](), dict[Mistake, None]()
    for point in sweep.points:
        one = sweep.choice_of(point)
        try:
            loaded = load(one.experiment, root=Path(), file=one.file, overrides=one.overrides)
            found.append(paired_loaded(loaded, Path.cwd(), read_env(Path.cwd())))
        except ExperimentError as error:
            mistakes |= dict.fromkeys(error.mistakes)
    if mistakes:
        raise ExperimentError(list(mistakes))
    _check_different(sweep, found)
    return found


def _check_different(sweep: Sweep, found: Sequence[Loaded]) -> None:
    seen: dict[str, Point] = {}
    for point, loaded in zip(sweep.points, found, strict=True):
        text = loaded.experiment.model_dump_json()
        if text in seen:
            other = seen[text]
            both = f"points {other.number} ({other}) and {point.number} ({point})"
            raise UsageError(f"--sweep: {both} are the same experiment")
        seen[text] = point


def _values(axis: str) -> tuple[str, list[str]]:
    """``KEY=VALUE,VALUE`` -> (key, values). A comma inside brackets or quotes is part of a value."""
    key, equals, text = axis.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"--sweep {axis!r}: expected KEY=VALUE,VALUE, such as hyperparameters.beta=0.05,0.1")
    values, closing, quote = [""], list[str](), ""
    for letter in text:
        if letter == "," and not closing and not quote:
            values.append("")
            continue
        values[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not values[-1][:-1].strip():
            quote = letter
        elif letter in _OPEN:
            closing.append(_OPEN[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
    values = [value.strip() for value in values]
    if not all(values):
        raise UsageError(f"--sweep {axis!r}: a value is empty (write '' for an empty text, null for none)")
    return key, values


@dataclass(frozen=True)
class Outcome:
    """The current state of a point's run. ``known``: None if it was not started."""

    point: Point
    run: str
    known: Known | None

    @property
    def state(self) -> str:
        return "not started" if self.known is None else self.known.state

    @property
    def is_done(self) -> bool:
        return self.state == "done"

    def json(self) -> dict[str, Any]:
        point = {"number": self.point.number, "settings": list(self.point.settings)}
        return {"run": self.run, **point, "state": self.state, "known": None if self.known is None else self.known.json()}


def ranked(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Best first: by accuracy on validation pairs, then by margin; then SFT runs by validation loss; then runs without
    validation data by their last loss; then unfinished points in grid order.
    """
    return sorted(outcomes, key=_rank)


def _rank(one: Outcome) -> tuple[Any, ...]:
    known = one.known
    if known is None or not one.is_done:
        return (3, one.point.number)
    if known.figures == "validation" and known.accuracy is not None:
        return (0, -known.accuracy, -(known.margin or 0.0), one.point.number)
    if known.validation_loss is not None and known.accuracy is None:
        return (1, known.validation_loss, one.point.number)
    return (_BY_TRAINING, known.loss if known.loss is not None else float("inf"), one.point.number)


def is_ranked_by_loss(outcomes: Iterable[Outcome]) -> bool:
    """Whether the validation loss ranks the points, as for SFT. False while nothing is known."""
    known = [one.known for one in outcomes if one.known is not None]
    has_pairs = any(run.accuracy is not None for run in known)
    return not has_pairs and any(run.method == SFT or run.validation_loss is not None for run in known)


def rank_notices(outcomes: Sequence[Outcome]) -> list[str]:
    """What the table does not compare, and why its first row may not be the best."""
    swept = {setting.partition("=")[0] for one in outcomes for setting in one.point.settings}
    found = []
    if "hyperparameters.beta" in swept:
        found.append("margins scale with beta: compare accuracies across values of beta")
    done = [_rank(one)[0] for one in outcomes if one.is_done]
    if len(done) > 1 and set(done) == {_BY_TRAINING}:
        found.append(
            Warned(
                "without validation pairs the points are ranked by their last training loss, which also falls if a "
                "model only memorizes; set validation_filename or validation_split to rank by pairs that were not trained on"
            )
        )
    return found
