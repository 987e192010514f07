"""The verbs that read experiment files: check, list, show, init."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import DataError, ExperimentError, LauncherError, Mistake, UsageError
from .options import experiment_argument, file_option, json_option, set_option

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..experiment.loaded import Loaded
    from ..experiment.schema import Experiment

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


@click.command("check")
@experiment_argument(required=False)
@file_option
@set_option
@json_option
def check(experiment: str | None, file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Find every mistake in the experiment files and their data.

    Without EXP all experiments are checked. Exit code 42: a file is wrong, 43: its data.
    """
    survey = _with_models(_survey(experiment, file, overrides))
    reports = [] if survey.mistakes else [_data_report(loaded) for loaded in survey.loaded]
    if as_json:
        click.echo(_dumps(_as_json(survey, reports)))
    else:
        for line in _check_lines(reports):
            click.echo(line)
        if not reports and not survey.mistakes:
            click.echo("no experiments")
    for warning in survey.warnings:
        click.echo(f"warning: {warning}", err=True)
    if survey.mistakes:
        raise ExperimentError(survey.mistakes)
    _raise_worst([report.error for report in reports if report.error is not None])


@dataclass(frozen=True)
class _Survey:
    loaded: Sequence[Loaded]
    mistakes: Sequence[Mistake]
    warnings: Sequence[str]


def _survey(experiment: str | None, file: Path | None, overrides: Sequence[str]) -> _Survey:
    from ..experiment.files import check_files, load

    try:
        if experiment is None:
            survey = check_files(Path(), file, overrides)
            return _Survey([e.loaded for e in survey.experiments if e.loaded is not None], survey.mistakes, survey.warnings)
        return _Survey([load(experiment, file=file, overrides=overrides)], (), ())
    except ExperimentError as error:
        return _Survey([], error.mistakes, ())


def _with_models(survey: _Survey) -> _Survey:
    """With a warning for each model that is not on this disk: not a mistake, as it may be made or lie elsewhere."""
    from ..job.job import check_model

    warnings = []
    for loaded in survey.loaded:
        try:
            with loaded.placed():
                check_model(loaded.experiment.model_name, Path())
        except ExperimentError as error:
            warnings += [_one_line(mistake) for mistake in error.mistakes]
    return replace(survey, warnings=(*survey.warnings, *dict.fromkeys(warnings)))


def _one_line(mistake: Mistake) -> str:
    return f"{mistake.where}: {mistake.what}" + (f" ({mistake.hint})" if mistake.hint else "")


@dataclass(frozen=True)
class _DataReport:
    loaded: Loaded
    pairs: Pairs | None
    error: LauncherError | None


def _data_report(loaded: Loaded) -> _DataReport:
    from ..data.pairs import read_pairs
    from ..data.rows import Reading
    from ..experiment.files import read_env
    from .screen import complain

    try:
        with loaded.placed():
            return _DataReport(loaded, read_pairs(loaded.experiment, Reading(Path(), read_env(), say=complain)), None)
    except LauncherError as error:  # kept, not lost: the next experiment's mistakes belong into the same report
        return _DataReport(loaded, None, error)


def _check_lines(reports: Sequence[_DataReport]) -> Iterator[str]:
    wide = max((len(report.loaded.key) for report in reports), default=0)
    for report in reports:
        if report.pairs is None:
            what = "the data has mistakes" if isinstance(report.error, DataError) else "the data cannot be read"
            yield f"{report.loaded.key:<{wide}}  {what}"
            continue
        pairs, columns = report.pairs, ", ".join(_columns(report.loaded.experiment))
        rows = ", ".join(f"{_count(source.rows, 'row')} in {source.name}" for source in pairs.sources)
        found = f"{_count(len(pairs.train), 'training pair')}, {_count(len(pairs.validation), 'validation pair')}"
        yield f"{report.loaded.key:<{wide}}  {found} ({rows}; columns {columns})"
        for notice in pairs.notices:
            yield f"{'':<{wide}}  notice: {notice}"


def _columns(experiment: Experiment) -> list[str]:
    mapping = experiment.columns
    names: list[str] = []
    for value in (mapping.input_columns, mapping.chosen, mapping.rejected):
        names += value.values() if isinstance(value, Mapping) else [str(value)]
    return list(dict.fromkeys(names))


def _as_json(survey: _Survey, reports: Sequence[_DataReport]) -> dict[str, Any]:
    return {
        "experiments": [_report_json(report) for report in reports],
        "mistakes": [asdict(mistake) for mistake in survey.mistakes],
        "warnings": list(survey.warnings),
    }


def _report_json(report: _DataReport) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "key": report.loaded.key,
        "experiment_id": report.loaded.experiment.experiment_id,
        "file": str(report.loaded.file),
        "columns": _columns(report.loaded.experiment),
        "error": None if report.error is None else str(report.error),
    }
    if report.pairs is not None:
        fields |= {
            "training_pairs": len(report.pairs.train),
            "validation_pairs": len(report.pairs.validation),
            "sources": [asdict(source) for source in report.pairs.sources],
            "notices": list(report.pairs.notices),
        }
    return fields


def _raise_worst(errors: Sequence[LauncherError]) -> None:
    """Shows every error once and raises the one with the highest exit code last."""
    once = list({str(error): error for error in errors}.values())
    if not once:
        return
    worst = max(once, key=lambda error: error.exit_code)
    for error in once:
        if error is not worst:
            click.secho("error: ", fg="red", bold=True, nl=False, err=True)
            click.echo(str(error), err=True)
    raise worst


@click.command("list")
@file_option
@json_option
def list_experiments(file: Path | None, as_json: bool) -> None:
    """List the experiments of the experiment files."""
    from ..experiment.files import read_files

    contents = read_files(Path(), file)
    names = ("key", "id", "model", "data", "place", "topic")
    rows = [
        (f.key, f.id, f.text("model_name"), f.text("datasets_path") or f.text("spreadsheet_id"), f.place.label, f.text("topic"))
        for f in contents.found
    ]
    if as_json:
        click.echo(_dumps([dict(zip(names, row, strict=True)) for row in rows]))
    elif rows:
        click.echo("\n".join(_table([names, *([value or "-" for value in row] for row in rows)])))
    else:
        click.echo("no experiments")
    mistakes = [mistake for wrong in contents.mistakes.values() for mistake in wrong]
    if mistakes:
        raise ExperimentError(mistakes)


@click.command("show", short_help="Show every value of EXP, and where it comes from.")
@experiment_argument()
@file_option
@set_option
@json_option
def show(experiment: str, file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the experiment EXP resolved: every value, and where it comes from."""
    from ..experiment.files import load, read_env

    loaded = load(experiment, file=file, overrides=overrides)
    values = {
        path: (value, _origin(path, value, loaded.origins)) for path, value in _flat(loaded.experiment.model_dump(mode="json"))
    }
    env = read_env()
    environment = {name: "set" if env.get(name) else "not set" for name in ENVIRONMENT}
    if as_json:
        fields = {
            "key": loaded.key,
            "file": str(loaded.file),
            "experiment": loaded.experiment.model_dump(mode="json"),
            "origins": {".".join(path): origin for path, (_, origin) in values.items()},
            "environment": environment,
        }
        click.echo(_dumps(fields))
        return
    click.echo(f"{loaded.key} in {loaded.file}\n")
    click.echo("\n".join(_table([(".".join(path), _text(value), origin) for path, (value, origin) in values.items()])))
    click.echo("\nenvironment and .env")
    click.echo("\n".join(_table(environment.items())))


def _flat(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every value that is no mapping; TRL's own fields stand where a file has them."""
    for name, below in value.items():
        inner = path if (*path, name) == ("hyperparameters", "trl") else (*path, name)
        if isinstance(below, Mapping) and (below or inner == path):
            yield from _flat(below, inner)
        else:
            yield inner, below


def _origin(path: tuple[str, ...], value: object, origins: Mapping[tuple[str | int, ...], str]) -> str:
    if path in origins:
        return origins[path]
    inside = next((place for leaf, place in origins.items() if leaf[: len(path)] == path), None)
    if inside is not None:
        return inside
    # A value that its file writes shorter, as  not_finite: stop  for  not_finite: {action: stop}.
    shorter = next((origins[path[:n]] for n in range(len(path) - 1, 0, -1) if path[:n] in origins), None)
    return shorter if shorter is not None and value is not None else "default"


def _text(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


@click.command("init", short_help="Write a commented first experiment file.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path), default=Path("configs/experiments.yml"))
def init(file: Path) -> None:
    """Write a commented first experiment file (configs/experiments.yml); never overwrites one."""
    from ..runs.run_dir import write_whole

    if file.exists():
        raise UsageError(f"{file} exists already: name another file, as  launcher init configs/second.yml")
    above = next((parent for parent in file.parents if parent.exists()), Path())
    if not above.is_dir():
        raise UsageError(f"{file} cannot be written: {above} is a file, not a folder")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, (Path(__file__).parents[1] / "experiment" / "init.yml").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {(error.strerror or str(error)).lower()}") from error
    option = "" if file.parent == Path("configs") and file.suffix in (".yml", ".yaml") else f" -f {shlex.quote(str(file))}"
    click.echo(_AFTER_INIT.format(file=file, option=option))


_AFTER_INIT: Final = """\
wrote {file}

Put your preferences beside it, as CSV (UTF-8, with a header line):
  data/my_preferences/training_data.csv     columns: prompt, chosen, rejected
  data/my_preferences/validation_data.csv   the same columns
  data/my_preferences/prompt_data.csv       optional; columns: name, system, user

Then:
  launcher check my_experiment{option}    every mistake in the file and its data
  launcher show my_experiment{option}     every value, and where it comes from
  launcher run my_experiment{option}      train"""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with aligned columns; the last is not padded."""
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [min(60, max(map(len, column))) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _dumps(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


VERBS = (check, list_experiments, show, init)
