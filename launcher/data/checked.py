"""Checked: the answer of ``launcher check``: the experiments, their pairs, and every mistake of files and data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, LauncherError, Mistake, UnreachableError
from ..experiment.files import check_files, read_env
from ..experiment.found import Other
from ..experiment.loaded import Loaded
from ..experiment.variables import check_addresses
from ..job.job import check_model, check_outputs
from .notices import never_evaluated
from .pairs import Pairs, read_pairs
from .rows import Reading


@dataclass(frozen=True)
class CheckedTokens:
    """The tokens of the training pairs: how many an epoch has, how many the longest sequence, and how many answers are cut."""

    pairs: int
    tokens: int
    longest: int
    cut: int
    notices: tuple[str, ...] = ()

    def json(self) -> dict[str, int]:
        return {"pairs": self.pairs, "tokens": self.tokens, "longest": self.longest, "cut": self.cut}


@dataclass(frozen=True)
class CheckedData:
    """One experiment and its data; ``pairs`` is None where they cannot be read, ``tokens`` where none were made.

    ``is_whole``: its file has no mistake. ``outputs``: why its folders cannot be written.
    """

    loaded: Loaded
    pairs: Pairs | None
    error: LauncherError | None
    is_whole: bool = True
    tokens: CheckedTokens | None = None
    outputs: ExperimentError | None = None

    @property
    def notices(self) -> tuple[str, ...]:
        """What is said of the experiment and of its pairs, each sentence once."""
        of_pairs = self.pairs.notices if self.pairs is not None else ()
        of_tokens = self.tokens.notices if self.tokens is not None else ()
        return tuple(dict.fromkeys((*self.loaded.notices, *of_pairs, *never_evaluated(self.loaded.experiment), *of_tokens)))

    @property
    def errors(self) -> list[LauncherError]:
        return [error for error in (self.outputs, self.error) if error is not None]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the experiment uses, once."""
        mapping = self.loaded.experiment.columns
        names: list[str] = []
        for value in (mapping.input_columns, mapping.chosen, mapping.rejected):
            names += value.values() if isinstance(value, Mapping) else [str(value)]
        return tuple(dict.fromkeys(names))

    def json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "key": self.loaded.key,
            "experiment_id": self.loaded.experiment.experiment_id,
            "file": str(self.loaded.file),
            "columns": list(self.columns),
            "error": "\n".join(map(str, self.errors)) or None,
        }
        if self.pairs is not None:
            fields |= {
                "training_pairs": len(self.pairs.train),
                "validation_pairs": len(self.pairs.validation),
                "sources": [asdict(source) for source in self.pairs.sources],
            }
        if self.tokens is not None:
            fields["tokens"] = self.tokens.json()
        return {**fields, "notices": list(self.notices)}


@dataclass(frozen=True)
class Checked:
    """``mistakes``: of the files; ``experiments``: those whose data are known in spite of them; ``others``: not DPO."""

    experiments: tuple[CheckedData, ...]
    mistakes: tuple[Mistake, ...]
    warnings: tuple[str, ...]
    others: tuple[Other, ...] = ()

    @property
    def errors(self) -> tuple[LauncherError, ...]:
        """Every error once. The last one gives the exit code, as of a run: that of a file's mistakes, else the highest, but a
        mistake before a server that is away.
        """
        once = {str(error): error for one in self.experiments for error in one.errors}
        away = UnreachableError.exit_code
        worst = max(once.values(), key=lambda error: (error.exit_code != away, error.exit_code), default=None)
        of_files = [ExperimentError(self.mistakes)] if self.mistakes else []
        return (*(error for error in once.values() if error is not worst), *([worst] if worst is not None else []), *of_files)

    def json(self) -> dict[str, Any]:
        return {
            "experiments": [one.json() for one in self.experiments],
            "mistakes": [asdict(mistake) for mistake in self.mistakes],
            "warnings": list(self.warnings),
            "others": [one.json() for one in self.others],
        }


def check(
    name: str | None,
    *,
    root: Path = Path(),
    file: Path | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Checked:
    """Checks the experiment ``name``, or all (None), and reads their data; ``say`` is told why reading takes long.

    Mistakes of files and data are in the value. Raises UsageError for an override without ``=``.
    """
    try:
        survey = check_files(root, file, overrides, name)
    except ExperimentError as error:
        return Checked((), error.mistakes, ())
    loaded = [one.loaded for one in survey.experiments if one.loaded is not None]
    warnings = (*survey.warnings, *dict.fromkeys(_missing_models(loaded, root)))
    readable = [(one.readable, one.loaded is not None) for one in survey.experiments if one.readable is not None]
    experiments = tuple(_checked(one, root, say, is_whole=is_whole) for one, is_whole in readable)
    return Checked(experiments, survey.mistakes, warnings, survey.others)


def _checked(loaded: Loaded, root: Path, say: Callable[[str], None], *, is_whole: bool) -> CheckedData:
    outputs = None
    try:
        with loaded.placed():
            check_outputs(loaded.experiment, root)
    except ExperimentError as error:
        outputs = error
    try:
        with loaded.placed():
            env = read_env(root)
            check_addresses(loaded.experiment, env)
            pairs = read_pairs(loaded.experiment, Reading(root, env, say=say))
            return CheckedData(loaded, pairs, None, is_whole, outputs=outputs)
    except LauncherError as error:  # kept, not lost: the next experiment's mistakes belong into the same report
        return CheckedData(loaded, None, error, is_whole, outputs=outputs)


def _missing_models(those: Iterable[Loaded], root: Path) -> Iterable[str]:
    """A warning for each model that is not on this disk: no mistake, as it may be made later or be elsewhere."""
    for loaded in those:
        try:
            with loaded.placed():
                check_model(loaded.experiment.model_name, root)
        except ExperimentError as error:
            for mistake in error.mistakes:
                yield f"{mistake.where}: {mistake.what}" + (f" ({mistake.hint})" if mistake.hint else "")
