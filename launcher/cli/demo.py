"""``launcher demo``: trains a small model in the current folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .terminal.options import name_option
from .terminal.screen import say


@click.command("demo", short_help="Train a small model here, in about two minutes.")
@name_option
@click.pass_context
def demo(context: click.Context, run_name: str | None) -> Any:
    """Train a small model in this folder: no GPU, no account, no download of a model.

    Writes configs/demo.yml and its data, if they are missing, makes a model of 377,000 parameters in data/demo, and trains it on
    this machine like `launcher run demo --backend host`. Overwrites no file.
    """
    from ..backends.host import require_packages
    from ..launch.demo import EXPERIMENT, KEY, make_model, write_files
    from .runs import run

    require_packages()
    for path in write_files(Path()):
        say(f"Wrote {path}.")
    make_model(Path(), os.environ, say)
    arguments = [KEY, "--file", str(EXPERIMENT), "--backend", "host", *(["--name", run_name] if run_name else [])]
    return run.main(arguments, prog_name="launcher run", parent=context.parent, standalone_mode=False)


VERBS: tuple[click.Command, ...] = (demo,)
