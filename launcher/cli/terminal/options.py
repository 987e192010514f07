"""Options that several verbs share, with one spelling and one help text."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from . import completion

Command = TypeVar("Command", bound=Callable[..., Any])


def experiment_argument(required: bool = True) -> Callable[[Command], Command]:
    """``EXP``, passed to the verb as ``experiment``: a key of the experiment files, or an ``experiment_id``."""
    metavar = "EXP" if required else "[EXP]"
    return click.argument("experiment", metavar=metavar, required=required, shell_complete=completion.experiments)


run_argument = click.argument("name", metavar="RUN", shell_complete=completion.runs)
file_option = click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Experiment file (default: configs/*.yml, configs/*.yaml).",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=completion.settings,
    help="Set one value, such as hyperparameters.learning_rate=1e-5; repeatable.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["host", "docker", "kubernetes"]),
    help="Where to run (default: docker if an engine answers, else host).",
)
tool_option = click.option(
    "--backend",
    type=click.Choice(["host", "docker"]),
    help="Where to compute (default: as the run ran, else host if the trainer is installed).",
)
cluster_option = click.option("--cluster", is_flag=True, help="Use the Kubernetes cluster of the current context.")
kind_option = click.option(
    "--kind",
    type=click.Choice(["auto", "job", "jobset", "trainjob"]),
    help="Kind of object on the cluster (default: a JobSet for several nodes if the cluster has JobSets).",
)
namespace_option = click.option("-n", "--namespace", metavar="NS", help="Namespace on the cluster (default: the context's).")
name_option = click.option("--name", "run_name", metavar="NAME", help="Name of the run (default: <experiment>-<time>-<4 hex>).")
data_of_option = click.option(
    "--data-of", metavar="RUN", shell_complete=completion.runs, help="Reuse RUN's snapshot of the spreadsheet."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def choice(*, name: bool = True) -> Callable[[Command], Callable[..., Any]]:
    """EXP, ``--set``, ``--name`` (if ``name``) and ``-f``, passed to the verb as one value ``choice``."""

    def decorated(command: Command) -> Callable[..., Any]:
        @wraps(command)
        def chosen(
            experiment: str, overrides: tuple[str, ...], file: Path | None, run_name: str | None = None, **others: Any
        ) -> Any:
            from ...launch.rendered import Choice

            return command(choice=Choice(experiment, overrides, run_name, file), **others)

        taken = set_option(name_option(file_option(chosen)) if name else file_option(chosen))
        return experiment_argument()(taken)

    return decorated


full_option = click.option("--full", is_flag=True, help="Print the files that the run reads, too.")
