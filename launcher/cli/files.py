"""The verbs that read experiment files: check, list, show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError, labelled
from .terminal.options import experiment_argument, file_option, json_option, set_option
from .terminal.screen import columns, complain, counted, fail, say, table

if TYPE_CHECKING:
    from ..data.checked import Checked, CheckedData
    from ..experiment.shown import Shown


@click.command("check", short_help="Find every mistake in experiment files and data.")
@experiment_argument(required=False)
@file_option
@set_option
@click.option("--tokens", is_flag=True, help="Also tokenize the data, as a run does before it loads the weights.")
@click.option("--fix", is_flag=True, help="Write clean copies of the files beside them, and list each change.")
@json_option
def check(experiment: str | None, file: Path | None, overrides: tuple[str, ...], tokens: bool, fix: bool, as_json: bool) -> int:
    """Find every mistake in the experiment files, their data, and their models on this disk.

    Checks all experiments unless EXP is given. Exits with 42 if a file or a model is wrong, 43 if data are wrong.

    --tokens also finds mistakes that need the tokenizer and chat template: prompts that fill max_seq_length, texts that
    the template drops or refuses, tokens and lengths beyond the model's. It needs the packages of dpo-launcher[trainer].

    --fix corrects mistakes with only one correction: line ends, garbled characters, zero-width characters, repeated rows,
    and leftovers of spreadsheets around a table. It writes NAME.fixed.csv (of JSON: NAME.fixed.jsonl), and lists the changes in
    NAME.fixed.changes.jsonl.
    """
    if fix:
        return _fix(experiment, file, overrides, as_json=as_json)
    from ..data import checked
    from ..launch.token_check import check_pods
    from .terminal.reading import reading

    with reading() as told:
        found = check_pods(checked.check(experiment, file=file, overrides=overrides, say=told))
    if tokens:
        from ..launch.token_check import check_tokens

        found = check_tokens(found, say=complain)
    if as_json:
        click.echo(_dumps(found.json()))
    else:
        _show_checked(found)
    for warning in found.warnings:
        complain(f"warning: {warning}")
    for error in found.errors:
        for text in error.texts:
            fail(text)
    return found.errors[-1].exit_code if found.errors else 0


def _fix(experiment: str | None, file: Path | None, overrides: tuple[str, ...], *, as_json: bool) -> int:
    from ..data.fixed import fix
    from ..experiment.files import load

    loaded = load(experiment, file=file, overrides=overrides)
    found = fix(loaded.experiment)
    if as_json:
        click.echo(_dumps([one.json() for one in found]))
        return 0
    for one in found:
        say(one.sentence, indent=4)
    settings = [f"--set {one.setting}={one.copy.name}" for one in found if one.copy is not None]
    if settings:
        say(f"Check the copies with: launcher check {loaded.key} {' '.join(settings)}")
    return 0


def _show_checked(found: Checked) -> None:
    wide = max((len(one.loaded.key) for one in found.experiments), default=0)
    for one in found.experiments:
        say(f"{one.loaded.key:<{wide}}  {_summary(one)}", indent=wide + 2)
        for notice in one.notices:
            say(f"{'':<{wide}}  {labelled(notice)}", indent=4)
    if not found.experiments and not found.mistakes:
        say("no experiments")
    for other in found.others:
        say(str(other))


def _summary(one: CheckedData) -> str:
    if one.pairs is None:
        return "mistakes in the data" if isinstance(one.error, DataError) else "cannot read the data"
    if one.error is not None:
        return "cannot make the tokens"
    rows = ", ".join(f"{counted(rows, 'row')} in {name}" for name, rows in one.pairs.rows.items())
    found = f"{counted(len(one.pairs.train), 'training pair')}, {counted(len(one.pairs.validation), 'validation pair')}"
    tokens = f"; {one.tokens.tokens:,} tokens per epoch, longest sequence {one.tokens.longest:,} tokens" if one.tokens else ""
    return f"{found} ({rows}; columns {', '.join(one.columns)}){tokens}"


@click.command("list")
@file_option
@json_option
def list_experiments(file: Path | None, as_json: bool) -> int:
    """List the experiments of the experiment files."""
    from ..experiment import shown

    found = shown.list_experiments(file=file)
    if as_json:
        click.echo(_dumps(found.json()))
    elif found.rows:
        rows = [[_cell(str(value or "-")) for value in row.values()] for row in found.json()]
        table([list(found.json()[0]), *rows], optional=("topic", "place", "data"))
    else:
        say("no experiments")
    for other in found.others if not as_json else ():
        say(str(other))
    if found.error is None:
        return 0
    for text in found.error.texts:
        fail(text)
    return found.error.exit_code


@click.command("show", short_help="Show every value of EXP and where it comes from.")
@experiment_argument()
@file_option
@set_option
@json_option
def show(experiment: str, file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the experiment EXP with every value and where it comes from."""
    from ..experiment import shown

    found = shown.show(experiment, file=file, overrides=overrides)
    if as_json:
        click.echo(_dumps(found.json()))
    else:
        _show_values(found)


def _show_values(found: Shown) -> None:
    say(f"{found.loaded.key} in {found.loaded.file}\n")
    _show_table([(value.path, _text(value.value), value.origin) for value in found.values])
    say("\nenvironment and .env")
    _show_table(list(found.json()["environment"].items()))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _show_table(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; on a narrow terminal one row after the other, wrapped."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [min(60, max(map(len, column))) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    room = columns(err=False)
    is_narrow = room is not None and room < max(map(len, lines))
    for row, line in zip(cells, lines, strict=True):
        say("  ".join(row) if is_narrow else line, indent=4)


def _cell(text: str) -> str:
    return " ".join(text.split())


def _dumps(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


VERBS = (check, list_experiments, show)
