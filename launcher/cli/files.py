"""The verbs that read and write experiment files: check, list, show, init."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import DataError, Warned, labelled
from .terminal import completion
from .terminal.options import experiment_argument, file_option, json_option, set_option
from .terminal.screen import columns, complain, counted, fail, say, table

if TYPE_CHECKING:
    from ..data.checked import Checked, CheckedData
    from ..data.first_data import FirstData
    from ..experiment.first_file import FirstFile
    from ..experiment.shown import Shown
    from ..planning.recipes import Recipe


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


@click.command("init", short_help="Write a commented first experiment file.")
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--recipe",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    shell_complete=completion.recipes,
    help="Write the recipe NAME for a model and a card; without NAME, or if several match, list them.",
)
@click.option(
    "--data",
    metavar="DATA",
    type=click.Path(),
    help="Read the columns of this file (CSV, JSON, Parquet, xlsx#Sheet) and name them.",
)
def init(file: Path | None, recipe: str | None, data: str | None) -> None:
    """Write a commented first experiment file (default: configs/experiments.yml). Never overwrites a file.

    Also writes .dpo-schema.json, which the first line names: YAML editors then check and complete the file, also offline.

    --data names the columns of your data in it: prompt, better and worse answer under any usual names, a verdict or
    ratings, system messages, conversations (default FILE: configs/<name of DATA>.yml).

    A recipe is a short file for a model on a card, such as qwen3-0.6b-lora-8gb (default FILE: configs/<NAME>.yml).
    """
    from ..experiment.first_file import write_first

    found_data = None
    if data is not None:
        from ..data.first_data import first_data

        found_data = first_data(data)
        file = file or Path("configs", f"{found_data.stem}.yml")
    if recipe is None:
        chosen, file = None, file or Path("configs/experiments.yml")
    else:
        from ..planning import recipes

        found = recipes.recipes(recipes.matching(recipe))
        if len(found) > 1:
            _show_recipes(found)
            return
        chosen, file = found[0], file or Path("configs", f"{found[0].name}.yml")
    settings = None if found_data is None else found_data.settings
    first = write_first(file, recipe=None if chosen is None else chosen.file, data=settings)
    option = "" if first.is_found else f" -f {shlex.quote(str(file))}"
    if found_data is not None:
        _show_read(first, found_data, option)
        return
    start = _AFTER_INIT if chosen is None or chosen.nodes == 1 else _AFTER_INIT.replace("launcher run {exp}      train", _SUBMIT)
    say(start.format(file=file, exp=first.key + option))


def _show_read(first: FirstFile, data: FirstData, option: str) -> None:
    say(f"Wrote {first.file}.\n")
    for sentence in data.said:
        if isinstance(sentence, Warned):
            complain(labelled(sentence))
        else:
            say(sentence)
    say(_AFTER_DATA.format(exp=first.key + option))


def _show_recipes(found: Sequence[Recipe]) -> None:
    rows = [[one.name, one.experiment.model_name, one.method, one.devices, f"{one.gigabytes} GB", one.memory] for one in found]
    table([["name", "model", "method", "GPUs", "card", "memory"], *rows], optional=("model", "method"))
    say("\nWrite one with: launcher init --recipe NAME")


@click.command("schema", short_help="Print the JSON schema of experiment files.")
def schema() -> None:
    """Print the JSON schema of experiment files, for editors: keys, types, defaults and a sentence for each.

    `launcher init` writes it beside its file as .dpo-schema.json. For files that exist, and after an update:
    launcher schema > configs/.dpo-schema.json, and as the first line of a file in configs:
    # yaml-language-server: $schema=.dpo-schema.json
    """
    from ..experiment.explain.json_schema import json_schema

    click.echo(_dumps(json_schema()))


_SUBMIT: Final = "launcher submit {exp}   train on a cluster"
_AFTER_DATA: Final = """
Then:
  launcher check {exp}   find every mistake
  launcher data {exp}    show lengths, repeats and one pair
  launcher run {exp}     train"""
_AFTER_INIT: Final = """\
Wrote {file}.

Put your preferences into data/my_preferences as CSV files (UTF-8, with a header line):
  training_data.csv     columns: prompt, chosen, rejected
  validation_data.csv   the same columns
  prompt_data.csv       optional; columns: name, system, user
Or name the columns of data that you have: launcher init --data FILE

Then:
  launcher check {exp}    find every mistake
  launcher show {exp}     show every value and its origin
  launcher run {exp}      train"""


def _show_table(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns, or where a terminal is too narrow a row after the other, each wrapped."""
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


VERBS = (check, list_experiments, show, init, schema)
