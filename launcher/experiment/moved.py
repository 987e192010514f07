"""Moved: the config of another tool, or a script that calls one, as the settings of an experiment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any, Final

from pydantic import ValidationError

from ..errors import ExperimentError, UsageError
from ..redact import SECRET
from .other_tools.tools import tool_of
from .other_tools.translated import Left, is_of_data, translated
from .problems import every_problem, without
from .schema import Experiment
from .sections.hyperparameters import Hyperparameters
from .text.flow import flow
from .text.yaml_nodes import Source, data
from .text.yaml_text import compose

_LARGEST: Final = 1_000_000  # bytes
_LONG: Final = 60  # characters of a value in a comment


@dataclass(frozen=True)
class Moved:
    """``settings`` of an experiment, in sections; ``tool``: whose config it is, if its keys tell.

    ``left``: what has no place here; ``defaults``: the keys of hyperparameters that are the tool's defaults.
    """

    source: str
    tool: str | None
    settings: Mapping[str, Any]
    left: tuple[Left, ...]
    defaults: tuple[str, ...]

    def without_data(self) -> Moved:
        """The same for an experiment with other data: the config's dataset is not missed."""
        return replace(self, left=tuple(one for one in self.left if not is_of_data(one.key)))

    @property
    def of_tool(self) -> str:
        """ ", a config of Axolotl", where its keys tell."""
        return "" if self.tool is None else f", a config of {self.tool}"

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """(key and value, why) of what was left out; a secret's value is not shown."""
        return [(_written(one), one.why) for one in self.left]


def moved(name: str, root: Path = Path()) -> Moved:
    """The settings of the config ``name``: YAML or JSON, or a shell script with ``--key value``.

    Raises UsageError for a file that cannot be read or that has no keys of such a tool, ExperimentError for mistakes in its text.
    """
    values = _values(name, root)
    tool = tool_of([key for key, value in _with_inner(values) if value is not None])
    found = translated(values, tool, Experiment.model_fields, set(Hyperparameters.model_fields) - {"trl"})
    if found.refused is not None:
        raise UsageError(f"{name}: {found.refused}")
    if not isinstance(found.settings.get("model_name"), str):
        keys = ", ".join(list(map(str, values))[:8]) or "none"
        raise UsageError(
            f"{name} names no model; expected: a config of TRL, Axolotl, LLaMA-Factory or ms-swift; found keys: {keys}"
        )
    settings: dict[str, Any] = {}
    for path, value in found.settings.items():
        section, _, key = path.rpartition(".")
        (settings.setdefault(section, {}) if section else settings)[key] = value
    settings.setdefault("datasets_path", "data/my_preferences")
    left = list(found.left)
    try:
        Experiment.parse(settings)
    except ValidationError as error:
        wrong = [problem for problem in every_problem(settings, error) if problem.loc]
        for problem in wrong:
            place = problem.loc[:2]
            given: Any = settings
            for part in place:
                given = given.get(part) if isinstance(given, Mapping) else given
            left.append(Left(str(place[-1]), given, problem.what))
        settings = without(settings, {problem.loc[:2] for problem in wrong})
    settings = {key: value for key, value in settings.items() if value != {}}
    return Moved(name, None if tool is None else tool.name, settings, tuple(left), tuple(map(_last, found.defaults)))


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _with_inner(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from value.items()


def _values(name: str, root: Path) -> Mapping[str, Any]:
    path = root / Path(name).expanduser()
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read {name}: {why}") from error
    if len(raw) > _LARGEST:
        raise UsageError(f"{name} is too large for a config: {len(raw)} bytes")
    if path.suffix in (".sh", ".bash"):
        return dict(_arguments(text))
    node, mistakes = compose(text, Source.of(name, text))
    if mistakes:
        raise ExperimentError(mistakes)
    values = None if node is None else data(node)
    if not isinstance(values, Mapping):
        raise UsageError(f"{name} is no config: expected keys with values")
    return values


def _arguments(script: str) -> Iterator[tuple[str, Any]]:
    """The ``--key value`` pairs of a script's commands; a key without a value is true, or false behind ``no_``; several
    values are a list.

    Variables that the script sets are replaced by their text.
    """
    text = "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))
    known = {name: value.strip("\"'") for name, value in re.findall(r"^[ \t]*(?:export )?(\w+)=(\S+)[ \t]*$", text, re.MULTILINE)}
    try:
        words = shlex.split(Template(text.replace("\\\n", " ")).safe_substitute(known), comments=True)
    except ValueError as error:
        raise UsageError(f"cannot read the script: {error}") from error
    for part in re.split(r"\0--(?=[A-Za-z])", "\0" + "\0".join(words))[1:]:
        key, _, rest = part.replace("=", "\0", 1).partition("\0") if "=" in part.partition("\0")[0] else part.partition("\0")
        given = [data(node) for word in rest.split("\0") if rest and (node := compose(word, Source.of(key, word))[0]) is not None]
        if not given and key.startswith("no_"):
            yield key.removeprefix("no_"), False
        else:
            yield key, True if not given else given[0] if len(given) == 1 else given


def _written(one: Left) -> str:
    if SECRET.search(one.key):
        return one.key
    text = " ".join(flow(one.value).split())  # it stands in a comment: one line
    return f"{one.key}: {text if len(text) <= _LONG else text[:_LONG] + ' …'}"
