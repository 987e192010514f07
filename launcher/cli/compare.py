"""The verb that compares runs in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .terminal import completion
from .terminal.options import json_option
from .terminal.screen import columns, notices, say, table

if TYPE_CHECKING:
    from ..report.comparison import Comparison


@click.command("compare", short_help="Compare runs: settings, metrics, cost.")
@click.argument("names", metavar="RUN RUN...", nargs=-1, required=True, shell_complete=completion.runs)
@click.option("--sort", metavar="KEY", help="Sort by a metric, best first, or by a setting; -KEY reverses.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line per run.")
def compare(names: tuple[str, ...], sort: str | None, as_json: bool, as_csv: bool) -> None:
    """Compare runs side by side: the settings that differ, validation metrics with 95 % intervals, train loss, speed and cost.

    Warns if metrics are not comparable, for example because the validation sets differ.
    """
    from ..backends.status.reports import reported
    from ..errors import UsageError
    from ..report.comparison import Comparison

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    found = Comparison.of(reported(names), sort)
    if as_json:
        import json

        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
    elif as_csv:
        import csv

        csv.writer(sys.stdout, lineterminator="\n").writerows(found.table())
    else:
        _draw(found)


def _draw(found: Comparison) -> None:
    """One table if all runs fit side by side, else several tables below each other."""
    from ..report.names import short_names

    width = columns(err=False)
    labels = ["RUN", *(label for label, *_ in found.rows)]
    cells = [short_names([run.name for run in found.runs]), *(cells for _, *cells in found.rows)]
    runs = list(zip(*cells, strict=True))
    for number, some in enumerate(_fitting(labels, runs, width)):
        if number:
            say()
        table([tuple(row) for row in zip(labels, *some, strict=True)])
    notices(found.notices)


def _fitting(labels: Sequence[str], runs: Sequence[Sequence[str]], width: int | None) -> list[list[Sequence[str]]]:
    """Groups of runs whose columns fit into ``width`` beside the labels, at least one run per group."""
    groups: list[list[Sequence[str]]] = []
    used = 0
    for run in runs:
        wide = max(map(len, run)) + 2
        if not groups or (width is not None and used + wide > width):
            groups.append([])
            used = max(map(len, labels))
        groups[-1].append(run)
        used += wide
    return groups


VERBS: tuple[click.Command, ...] = (compare,)
