"""Checked: the answer of ``launcher check``: the experiments, their pairs, and every mistake of files and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ExperimentError, LauncherError, Mistake, UnreachableError
from ..experiment.files import check_files, read_env
from ..experiment.found import Other
from ..experiment.loaded import Loaded
from ..experiment.schema import Experiment
from ..experiment.variables import check_addresses
from ..job.job import check_outputs
from ..job.model import check_model
from ..job.starting import check_starting, paired_loaded
from ..network import notify_problem
from .notices import never_evaluated
from .pairs import Pairs, read_pairs
from .tables.reading import Reading


@dataclass(frozen=True)
class CheckedTokens:
    """The tokens of the training pairs: how many an epoch has, how many the longest sequence, and how many answers are cut.

    ``lengths``, ``shown`` and ``examples``: of trainer.inputs.tokens.preview, where they were asked for.
    """

    pairs: int
    tokens: int
    longest: int
    cut: int
    notices: tuple[str, ...] = ()
    lengths: Mapping[str, Any] | None = None
    shown: Mapping[str, Any] | None = None
    examples: tuple[Mapping[str, Any], ...] = ()

    def json(self) -> dict[str, int]:
        return {"pairs": self.pairs, "tokens": self.tokens, "longest": self.longest, "cut": self.cut}


@dataclass(frozen=True)
class CheckedData:
    """One experiment and its data; ``pairs`` is None if they cannot be read, ``tokens`` where none were made.

    ``is_whole``: its file has no mistake. ``outputs``: why its folders cannot be written. ``model``: what is wrong with its
    model.
    """

    loaded: Loaded
    pairs: Pairs | None
    error: LauncherError | None
    is_whole: bool = True
    tokens: CheckedTokens | None = None
    outputs: ExperimentError | None = None
    model: ExperimentError | None = None

    @property
    def notices(self) -> tuple[str, ...]:
        """Notices about the experiment and its pairs, each once."""
        of_pairs = self.pairs.notices if self.pairs is not None else ()
        of_tokens = self.tokens.notices if self.tokens is not None else ()
        return tuple(dict.fromkeys((*self.loaded.notices, *of_pairs, *never_evaluated(self.loaded.experiment), *of_tokens)))

    @property
    def errors(self) -> list[LauncherError]:
        return [error for error in (self.model, self.outputs, self.error) if error is not None]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the experiment uses, once."""
        if self.pairs is not None:
            return self.pairs.mapped
        mapping = self.loaded.experiment.columns
        names: list[str] = []
        for value in filter(None, (mapping.input_columns, mapping.chosen, mapping.rejected)):
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
                "sources": [source.json() for source in self.pairs.sources],
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
    readable = [(one.readable, one.loaded is not None) for one in survey.experiments if one.readable is not None]
    found = tuple(_checked(one, root, say, is_whole=is_whole) for one, is_whole in readable)
    later = {id(one): _lines(one.model) for one in found if one.model is not None and _is_made_later(one, name)}
    warnings = (*survey.warnings, *_notify(found, root), *dict.fromkeys(line for lines in later.values() for line in lines))
    experiments = tuple(replace(one, model=None) if id(one) in later else one for one in found)
    return Checked(experiments, survey.mistakes, warnings, survey.others)


def _notify(found: Sequence[CheckedData], root: Path) -> list[str]:
    """What is wrong with the variables that experiments name under ``notify``; a cluster's Secret may have them all the same."""
    names = dict.fromkeys(one.loaded.experiment.notify for one in found)
    env = read_env(root) if any(names) else {}
    return [wrong for name in names if name and (wrong := notify_problem(name, env.get(name, ""))) is not None]


def _checked(loaded: Loaded, root: Path, say: Callable[[str], None], *, is_whole: bool) -> CheckedData:
    outputs = _wrong(loaded, lambda: check_outputs(loaded.experiment, root))
    model: ExperimentError | None = None
    env = read_env(root)
    try:
        loaded = paired_loaded(loaded, root, env)
    except ExperimentError as error:
        model = error
    try:
        with loaded.placed():
            model = model or _wrong(loaded, lambda: _check_model(loaded.experiment, root, env))
            check_addresses(loaded.experiment, env)
            pairs = read_pairs(loaded.experiment, Reading(root, env, say=say))
            return CheckedData(loaded, pairs, None, is_whole, outputs=outputs, model=model)
    except LauncherError as error:  # kept, not lost: the next experiment's mistakes belong into the same report
        return CheckedData(loaded, None, error, is_whole, outputs=outputs, model=model)


def _check_model(experiment: Experiment, root: Path, env: Mapping[str, str]) -> None:
    check_model(experiment, root, env)
    check_starting(experiment, root, env)


def _wrong(loaded: Loaded, check: Callable[[], None]) -> ExperimentError | None:
    """The problems that ``check`` finds, at their place in the file."""
    try:
        with loaded.placed():
            check()
    except ExperimentError as error:
        return error
    return None


def _is_made_later(one: CheckedData, name: str | None) -> bool:
    """Whether a missing model is a warning: it is on a cluster's volume, or a command of this checkout makes it and all
    experiments are checked.
    """
    experiment, mistakes = one.loaded.experiment, one.model.mistakes if one.model is not None else ()
    is_far = "data" in experiment.launch.kubernetes.volumes or experiment.model_name.startswith("/dpo/")
    is_made = name is None and any("make it with" in (mistake.hint or "") for mistake in mistakes)
    return is_made or (is_far and any("not found" in mistake.what for mistake in mistakes))


def _lines(error: ExperimentError) -> list[str]:
    return [f"{mistake.where}: {mistake.what}" + (f" ({mistake.hint})" if mistake.hint else "") for mistake in error.mistakes]
