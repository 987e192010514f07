"""The first experiment file, written by ``launcher init``, with a key and an id of its own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ..errors import ExperimentError, UsageError
from .explain.json_schema import json_schema
from .files import is_foreign, read_files
from .moved import Moved
from .schema import Experiment
from .sections.data_file import SUFFIXES
from .text.flow import flow
from .text.yaml_nodes import Source, data
from .text.yaml_text import compose

SCHEMA: Final = ".dpo-schema.json"  # beside the file, so that editors find it offline
_KEY: Final = "my_experiment"  # the key in init.yml
_DATA: Final = ("datasets_path", "train_filename", "validation_filename", "validation_split", "dpo_column_mapping_config")
_GENERIC: Final = ("", "config", "configs", "experiment", "experiments", "my_hyperparameters", "my_storage")


@dataclass(frozen=True)
class FirstFile:
    """``key``: the experiment's key and id. ``is_found``: whether commands find ``file`` without ``-f``."""

    file: Path
    key: str
    is_found: bool


def write_first(
    file: Path,
    root: Path = Path(),
    recipe: Path | None = None,
    data: Mapping[str, Any] | None = None,
    moved: Moved | None = None,
) -> FirstFile:
    """Writes a commented experiment file, a copy of ``recipe``, or the config that was ``moved``, with a key that no file in
    ``configs/`` has, and the JSON schema that its first line names for editors. ``data``: replaces the settings about data.

    Raises UsageError if it cannot be written.
    """
    path = root / file
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{file} is a file of data, not an experiment file; for data use: launcher init --data {_quoted(file)}")
    key = _free_key(path.stem, root)
    text = _first_text(key, recipe) if moved is None else _moved_text(key, moved)
    text = text if data is None else _with_data(text, data)
    above = next((parent for parent in path.parents if parent.exists()), root)
    if not above.is_dir():
        raise UsageError(f"cannot write {file}: {above} is a file, not a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as opened:  # fails if it exists
            opened.write(f"# yaml-language-server: $schema={SCHEMA}\n{text}")
        path.with_name(SCHEMA).write_text(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except FileExistsError:
        if moved is None and recipe is None and is_foreign(path):
            raise UsageError(
                f"{file} is the config of another tool; write an experiment from it: launcher init --from {_quoted(file)}"
            ) from None
        again = "launcher init configs/mine.yml" + ("" if recipe is None else f" --recipe {recipe.stem}")
        again += "" if moved is None else f" --from {_quoted(moved.source)}"
        again += "" if data is None else " --data FILE"
        raise UsageError(f"{file} already exists; name another file: {again}") from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {(error.strerror or str(error)).lower()}") from error
    return FirstFile(file, key, file.parent == Path("configs") and file.suffix in (".yml", ".yaml"))


def _quoted(file: Path | str) -> str:
    return shlex.quote(str(file))


def _first_text(key: str, recipe: Path | None) -> str:
    own, source = (_KEY, Path(__file__).with_name("init.yml")) if recipe is None else (recipe.stem, recipe)
    text = source.read_text(encoding="utf-8")
    return text.replace(f"experiment_id: {own}", f"experiment_id: {_written(key)}").replace(own, key)


def _moved_text(key: str, moved: Moved) -> str:
    """The settings that were moved, in the order of the reference, then as comments what was not."""
    lines = [f"# From {moved.source}{moved.of_tool}. `launcher explain KEY` explains a key."]
    lines += [f"{key}:", f"  experiment_id: {_written(key)}"]
    order = list(Experiment.model_fields)
    for name, value in sorted(moved.settings.items(), key=lambda item: order.index(item[0])):
        lines += _written_settings({name: value}, dict.fromkeys(moved.defaults, f"{moved.tool}'s default"))
    if moved.left_out:
        lines += ["", "  # Not taken over:"]
        lines += [line for written, why in moved.left_out for line in (f"  # {written}", f"  #     {why}")]
    return "\n".join(lines) + "\n"


def _with_data(text: str, settings: Mapping[str, Any]) -> str:
    """``text`` of a file with one experiment, with ``settings`` in place of its settings about data."""
    kept, written, is_inside = list[str](), list(_written_settings(settings)), False
    for line in text.splitlines():
        key = re.match(r"  (?:# )?(\w+):", line)
        is_inside = (is_inside and line.startswith("   ")) or (key is not None and key[1] in _DATA)
        if not is_inside and not line.startswith("  # Data:"):
            kept.append(line)
        elif written:  # at the place of the first replaced setting
            kept += ["  # Data: the columns as `launcher init --data` found them.", *written]
            written = []
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)) + "\n"


def _written_settings(settings: Mapping[str, Any], said: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """``said``: key inside a section -> the comment behind it."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield f"  {key}:"
            for name, inner in value.items():
                line = f"    {name}: {flow(inner)}"
                yield f"{line:<37} # {said[name]}" if name in said else line
        else:
            yield f"  {key}: {flow(value)}"


def _free_key(stem: str, root: Path) -> str:
    """A key made of the file's name, with a number if an experiment in ``configs/`` already has it as key or id."""
    wanted = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")
    if wanted.lower() in _GENERIC:
        wanted = _KEY
    try:
        found = read_files(root).found
    except ExperimentError:  # no file yet
        found = ()
    taken = {name for one in found for name in (one.key, one.id, f"exp_{one.id}", one.id.removeprefix("exp_"))}
    keys = (wanted if number == 1 else f"{wanted}_{number}" for number in range(1, len(taken) + 2))
    return next(key for key in keys if key not in taken)


def _written(key: str) -> str:
    """``key`` in YAML: quoted if it would be read as a number or as a word such as true."""
    node, _ = compose(key, Source.of("init", key))
    return key if node is not None and data(node) == key else f'"{key}"'
