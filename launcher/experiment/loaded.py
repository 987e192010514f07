"""Loaded: a checked experiment with the place of each value; or its mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from ..errors import DataError, ExperimentError, Mistake
from ..redact import REDACTOR, SECRET
from .cautions import cautions
from .found import Found
from .problems import Problem, every_problem, without
from .schema import Experiment
from .text.overrides import override
from .text.yaml_nodes import BrokenNode, MappingNode, Node, Place, ScalarNode, data, has_broken, leaves
from .unused import without_effect

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Loaded:
    """A checked experiment. ``places``: path of a value -> its place in a file; defaults have none.

    ``notices``: accepted keys without effect.
    """

    experiment: Experiment
    key: str
    file: Path
    places: Mapping[Keys, Place]
    notices: tuple[str, ...] = ()

    @property
    def origins(self) -> dict[Keys, str]:
        """Path of a value -> ``file:line`` or ``--set``."""
        return {path: place.label for path, place in self.places.items()}

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Adds the place in the file to mistakes that are found later in a setting, such as ``launch.gpus``."""
        try:
            yield
        except (ExperimentError, DataError) as error:
            is_of_data = isinstance(error, DataError)
            raise type(error)([self._at_place(mistake, whole=is_of_data) for mistake in error.mistakes]) from error

    def _at_place(self, mistake: Mistake, *, whole: bool) -> Mistake:
        """``whole``: only if the mistake names the whole path of a setting; a folder's name may look like a part of one."""
        for path, place in self.places.items():
            setting = ".".join(map(str, path))
            if setting == mistake.where or (not whole and f".{mistake.where}." in f".{setting}."):
                return place.mistake(f"{mistake.where}: {mistake.what}", mistake.expected, mistake.found, mistake.hint)
        return mistake


def checked(found: Found, overrides: Sequence[str]) -> tuple[Loaded | None, list[tuple[Mistake, str]]]:
    """The experiment, or its mistakes, each with the experiment's key."""
    node, wrong = override(found.node, overrides)
    values = data(node)
    try:
        experiment = Experiment.parse(values)
    except ValidationError as error:
        broken = has_broken(node)
        mistakes = [
            _mistake(p, node, found.place) for p in every_problem(values, error) if not (broken and _is_broken(p.loc, node))
        ]
        return None, [(mistake, found.key) for mistake in wrong + mistakes]
    places = dict(leaves(node))
    wrong += _held_secrets(values, places)
    if wrong or has_broken(node):
        return None, [(mistake, found.key) for mistake in wrong]
    return Loaded(experiment, found.key, found.file, places, (*without_effect(values), *cautions(experiment))), []


def readable(found: Found, overrides: Sequence[str]) -> Loaded | None:
    """The experiment without its invalid values, to read its data; None if one of them may decide which data are read."""
    node, _ = override(found.node, overrides)
    values = data(node)
    try:
        experiment = Experiment.parse(values)
    except ValidationError as error:
        problems = every_problem(values, error)
        if any(_concerns_data(problem, values) for problem in problems):
            return None
        try:
            experiment = Experiment.parse({"model_name": "unknown", **without(values, {problem.loc for problem in problems})})
        except ValidationError:
            return None
    return Loaded(experiment, found.key, found.file, dict(leaves(node)))


_OF_DATA: Final = re.compile(r"dataset|spreadsheet|_filename|_sheet|prompt|column")


def _concerns_data(problem: Problem, values: Mapping[str, object]) -> bool:
    """Whether the correct value would change which data are read, or how."""
    if not problem.loc:
        return True
    head = str(problem.loc[0])
    if head == "storage_config":
        return str(values.get("datasets_path", "")).startswith("s3://")
    is_known = head in Experiment.model_fields
    return _OF_DATA.search(head if is_known else f"{head} {problem.hint}") is not None


def _held_secrets(value: object, places: Mapping[Keys, Place], path: Keys = ()) -> list[Mistake]:
    """A mistake for each text that contains a secret: the file gets committed, and the run keeps a copy."""
    if isinstance(value, Mapping):
        return [mistake for key, one in value.items() for mistake in _held_secrets(one, places, (*path, key))]
    if isinstance(value, list):
        return [mistake for index, one in enumerate(value) for mistake in _held_secrets(one, places, (*path, index))]
    if not isinstance(value, str) or REDACTOR.text(value) == value or path not in places:
        return []
    name = REDACTOR.named(value)
    what = f"{'.'.join(map(str, path))} contains {f'the value of {name}' if name else 'a secret'}"
    return [places[path].mistake(what, hint="name it in launch.secrets and keep its value in .env")]


def _is_broken(loc: Keys, node: Node) -> bool:
    """Whether a problem at ``loc`` may be caused by a node that was already reported: at, above or below it."""
    for part in loc:
        if isinstance(node, MappingNode) and str(part) in node.entries:
            node = node.entries[str(part)].node
        else:
            return isinstance(node, BrokenNode) or (isinstance(node, MappingNode) and "<<" in node.entries)
    return has_broken(node)


def _mistake(problem: Problem, node: Node, key: Place) -> Mistake:
    """``key``: the place of the experiment's name, where missing keys are reported."""
    place, value, what = key, node, problem.what
    for index, part in enumerate(problem.loc):
        last = index == len(problem.loc) - 1
        if isinstance(value, MappingNode) and str(part) in value.entries:
            entry = value.entries[str(part)]
            place, value = (entry.key if problem.of_key and last else entry.node.place), entry.node
        elif not isinstance(value, MappingNode | ScalarNode | BrokenNode) and isinstance(part, int) and part < len(value.items):
            value = value.items[part]
            place = value.place
        elif isinstance(value, ScalarNode) and isinstance(part, int):  # a single value for a list
            what = what.replace(f".{part} ", " ", 1)
        else:
            break
    hint = problem.hint
    if hint is None and "text" in (problem.must or "") and isinstance(value, ScalarNode) and value.plain:
        hint = _quotes(place) if value.value is not None and not isinstance(value.value, str) else None
    found = None if any(SECRET.search(str(part)) for part in problem.loc) and not problem.of_key else problem.found
    return place.mistake(what, problem.expected, found, hint)


def _quotes(place: Place) -> str:
    written = place.source.lines[place.line - 1][place.column - 1 :][: place.width]
    return f'quote it: "{written}"'
