"""Results of ``launcher show`` and ``launcher list``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ExperimentError
from .files import load, read_env, read_files
from .found import Found, Other
from .loaded import Keys, Loaded

ENVIRONMENT: Final = (
    "GOOGLE_SHEETS_CLIENT_EMAIL",
    "GOOGLE_SHEETS_PRIVATE_KEY",
    "GOOGLE_SHEETS_API_URL",
    "GOOGLE_SHEETS_TOKEN_URL",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_REGION",
    "HF_TOKEN",
)


@dataclass(frozen=True)
class Value:
    """One setting: dotted path, value and origin (``file:line``, ``--set`` or ``default``)."""

    path: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Shown:
    """An experiment, the origin of each value, and which environment variables are set (never their values)."""

    loaded: Loaded
    values: tuple[Value, ...]
    environment: Mapping[str, bool]

    def json(self) -> dict[str, Any]:
        return {
            "key": self.loaded.key,
            "file": str(self.loaded.file),
            "experiment": self.loaded.experiment.model_dump(mode="json"),
            "origins": {value.path: value.origin for value in self.values},
            "environment": {name: "set" if is_set else "not set" for name, is_set in self.environment.items()},
        }


def show(name: str, *, root: Path = Path(), file: Path | None = None, overrides: Sequence[str] = ()) -> Shown:
    """Raises what ``load`` and ``read_env`` raise."""
    loaded = load(name, root=root, file=file, overrides=overrides)
    values = tuple(
        Value(".".join(path), value, _origin(path, value, loaded.origins))
        for path, value in flat(loaded.experiment.model_dump(mode="json"))
    )
    env = read_env(root)
    return Shown(loaded, values, {name: bool(env.get(name)) for name in ENVIRONMENT})


@dataclass(frozen=True)
class Row:
    """An unchecked experiment. ``data``: ``datasets_path`` or ``spreadsheet_id``."""

    key: str
    id: str
    model: str | None
    data: str | None
    place: str
    topic: str | None


@dataclass(frozen=True)
class Listed:
    """``error``: mistakes of files that could not be read completely, or None. ``others``: experiments of other kinds."""

    rows: tuple[Row, ...]
    error: ExperimentError | None
    others: tuple[Other, ...] = ()

    def json(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]


def list_experiments(root: Path = Path(), file: Path | None = None) -> Listed:
    """Every experiment of the files, valid or not. Raises ExperimentError if there is no file."""
    contents = read_files(root, file)
    rows = tuple(_row(found) for found in contents.found)
    mistakes = [mistake for wrong in contents.mistakes.values() for mistake in wrong]
    return Listed(rows, ExperimentError(mistakes) if mistakes else None, contents.others)


def _row(found: Found) -> Row:
    text = found.text
    source = text("datasets_path") or text("spreadsheet_id")
    return Row(found.key, found.id, text("model_name"), source, found.place.label, text("topic"))


def flat(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every value that is not a mapping. TRL's own fields get the path that they have in a file."""
    for name, below in value.items():
        inner = path if (*path, name) == ("hyperparameters", "trl") else (*path, name)
        if isinstance(below, Mapping) and (below or inner == path):
            yield from flat(below, inner)
        else:
            yield inner, below


def _origin(path: tuple[str, ...], value: object, origins: Mapping[Keys, str]) -> str:
    if path in origins:
        return origins[path]
    inside = next((place for leaf, place in origins.items() if leaf[: len(path)] == path), None)
    if inside is not None:
        return inside
    # The file has a short form, such as  not_finite: stop  for  not_finite: {action: stop}.
    shorter = next((origins[path[:n]] for n in range(len(path) - 1, 0, -1) if path[:n] in origins), None)
    return shorter if shorter is not None and value is not None else "default"
