"""The verbs that write experiment files, and what editors check them with: init, schema."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..errors import UsageError, Warned, labelled
from .terminal import completion
from .terminal.screen import complain, say, table

if TYPE_CHECKING:
    from ..data.first_data import FirstData
    from ..experiment.first_file import FirstFile
    from ..planning.recipes import Recipe


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
    help="Read the columns of DATA and name them: a file (CSV, JSON, Parquet, xlsx#Sheet), hf://owner/name, s3://…/file, or the "
    "address of a Google spreadsheet.",
)
@click.option(
    "--from",
    "config",
    metavar="CONFIG",
    type=click.Path(),
    help="Take over the settings of a config of TRL, Axolotl, LLaMA-Factory or ms-swift (YAML, JSON, or a script).",
)
def init(file: Path | None, recipe: str | None, data: str | None, config: str | None) -> None:
    """Write a commented first experiment file (default: configs/experiments.yml). Never overwrites a file.

    Also writes .dpo-schema.json, which the first line names: YAML editors then check and complete the file, also offline.

    --data names the columns of your data in it: prompt, better and worse answer under any usual names, a verdict or
    ratings, system messages, conversations (default FILE: configs/<name of DATA>.yml). hf://owner/name#SPLIT names a split.

    --from writes the settings of another tool's config under our names, with that tool's defaults, and lists what has no
    place here (default FILE: configs/<name of CONFIG>.yml). --data then replaces its dataset.

    A recipe is a short file for a model on a card, such as qwen3-0.6b-lora-8gb (default FILE: configs/<NAME>.yml).
    """
    from ..experiment.first_file import write_first

    if config is not None:
        if recipe is not None:
            raise UsageError("--from cannot be combined with --recipe: both write the settings")
        _move(config, file, data)
        return
    found_data = None
    if data is not None:
        found_data = _read(data)
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


def _read(data: str) -> FirstData:
    from ..data.first_data import first_data
    from ..data.tables.reading import Reading
    from ..experiment.files import read_env
    from .terminal.reading import reading

    with reading() as told:
        return first_data(data, Reading(env=read_env(Path()), say=told))


def _move(config: str, file: Path | None, data: str | None) -> None:
    from ..experiment.first_file import write_first
    from ..experiment.moved import moved

    found = moved(config) if data is None else moved(config).without_data()
    found_data = None if data is None else _read(data)
    target = file or Path("configs", f"{Path(config).stem}.yml")
    first = write_first(target, data=None if found_data is None else found_data.settings, moved=found)
    say(f"Wrote {first.file} from {config}{found.of_tool}.\n")
    if found.left_out:
        say("Not taken over:")
        for written, why in found.left_out:
            say(f"  {written}\n      {why}", indent=6)
        say("")
    option = "" if first.is_found else f" -f {shlex.quote(str(first.file))}"
    if found_data is not None:
        _say_data(found_data, first.key + option)
        return
    say(_AFTER_DATA.format(exp=first.key + option).lstrip())


def _show_read(first: FirstFile, data: FirstData, option: str) -> None:
    say(f"Wrote {first.file}.\n")
    _say_data(data, first.key + option)


def _say_data(data: FirstData, experiment: str) -> None:
    for sentence in data.said:
        if isinstance(sentence, Warned):
            complain(labelled(sentence))
        else:
            say(sentence)
    say(_AFTER_DATA.format(exp=experiment))


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

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


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


VERBS = (init, schema)
