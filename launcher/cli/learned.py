"""The verbs that show what a run learned and that score new pairs, and the summary at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .health import drawn
from .terminal.options import cluster_option, json_option, namespace_option, run_argument, tool_option
from .terminal.screen import LABEL, columns, complain, counted, facts, notices, say, table, this_launcher

if TYPE_CHECKING:
    from ..runs.learned.pair_rewards import Group
    from ..runs.learned.samples import Sample
    from ..runs.learned.summary import Learned
    from ..runs.learned.suspects import Suspect

_SUSPECTS = 5  # shown
_SCORED = (
    ("accuracy", "accuracy", ".2f"),
    ("margin", "margin", "+z.3f"),
    ("chosen reward", "chosen", "+z.3f"),
    ("rejected reward", "rejected", "+z.3f"),
)
_AT_END = 2  # samples shown at the end of a run
_GROUPS = 30  # rows shown for a column with many values
_TEXT = 240  # characters shown per message
_TURNS = 6  # messages shown per conversation


@click.command("learned", short_help="Show what a run learned.")
@run_argument
@click.option("--by", "column", metavar="COLUMN", help="Group the validation pairs by a column of the data (default: length).")
@json_option
@cluster_option
@namespace_option
def learned(name: str, column: str | None, as_json: bool, cluster: bool, namespace: str | None) -> None:
    """Show what a run learned: validation metrics, answers before and after, and suspect training pairs.

    RUN is a name or the beginning of one, an experiment (its newest run) or `latest`. The 95 % intervals are Wilson's for the
    accuracy and Student's t for means.
    """
    from ..backends.status.finding import find
    from ..backends.status.learned import evaluated

    found = evaluated(*find(name, cluster=cluster, namespace=namespace), column)
    if as_json:
        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
        return
    for line in _figures(found.learned):
        say(line, indent=2)
    if found.groups:
        say()
        say(f"by {found.by}:")
        _table(found.by, found.groups)
    _draw_samples(found.samples)
    _draw_suspects(found.suspects)
    if found.learned.unsuspected is not None:
        say(f"\n{'suspects':<{LABEL}}{found.learned.unsuspected}", indent=LABEL)
    notices([one for one in (found.learned.displaced, found.learned.suspected) if one is not None])
    drawn(found.findings or None)


@click.command("score", short_help="Score new pairs with a run's weights.")
@run_argument
@click.option(
    "--data",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="File with the pairs (CSV, JSON, Parquet …).",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write each pair's rewards (JSON lines).")
@click.option("--by", "column", metavar="COLUMN", help="Group the pairs by a column of the file (default: length).")
@tool_option
@json_option
def score(name: str, file: Path, output: Path | None, column: str | None, backend: str | None, as_json: bool) -> None:
    """Score new pairs with a run's weights: rewards, margin and accuracy, with 95 % intervals.

    FILE has the columns of the run's data; the run's mapping, prompt and chat template are used. RUN may also be the folder of a
    run that was downloaded. Computes on this machine where the trainer is installed, or in a container of the run's image.
    """
    from ..after.score import score as score_pairs

    found = score_pairs(name, file, output, column, complain, backend)
    if as_json:
        click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))
        return
    say(f"{counted(found.learned['pairs'], 'pair')} of {found.file}:")
    after = found.learned["after"]
    table([("", "mean", "95 % interval"), *(_estimate(label, after[key], spec) for label, key, spec in _SCORED)])
    say()
    say(f"by {found.by}:")
    _table(found.by, found.groups)
    notices(found.notices)
    if found.output is not None:
        say(f"written: {found.output}")


def draw(found: Learned) -> None:
    """Prints metrics before and after, the adapter, how to load it, and the next commands."""
    for line in _figures(found):
        say(line, indent=2)
    _draw_samples(found.samples[:_AT_END])
    if found.samples:
        say()
    notices([one for one in (found.displaced, found.suspected) if one is not None])
    verified = "" if found.tensors is None else f" ({found.tensors} tensors, read back and compared)"
    say(f"{'adapter':<{LABEL}}{found.adapter}{verified}", indent=LABEL)
    if found.report is not None:
        say(f"{'report':<{LABEL}}{found.report}", indent=LABEL)
    if found.uploaded is not None:
        say(f"{'uploaded':<{LABEL}}{found.uploaded}", indent=LABEL)
    commands = [f"{this_launcher()} {command}" for command in found.next]
    for label, lines in (("next", commands), ("in Python", found.python)):
        for number, line in enumerate(lines):
            click.echo(f"{'' if number else label:<{LABEL}}{line}")  # never wrapped, so that it can be copied


def _figures(found: Learned) -> Iterator[str]:
    figures = found.figures
    if figures is None:
        return
    yield figures.what
    widths = [_width(cells) for cells in zip(figures.heads, *(row[1:] for row in figures.rows), strict=True)]
    wide, room = max(len(row[0]) for row in figures.rows), columns(err=False)
    if room is not None and 4 + wide + sum(widths) > room and len(widths) > 2:
        widths.pop()  # too narrow for the intervals
    for label, *cells in [("", *figures.heads), *figures.rows]:
        line = f"  {label:<{wide}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
        yield line.rstrip()
    for label, meaning in figures.meanings:
        yield f"  {label}: {meaning}"


def _estimate(label: str, found: Mapping[str, Any], spec: str) -> tuple[str, str, str]:
    low, high = found["low"], found["high"]
    return label, f"{found['value']:{spec}}", "-" if low is None else f"{low:{spec}} to {high:{spec}}"


def _width(cells: Sequence[str]) -> int:
    return max(10, max(map(len, cells)) + 2)


def _table(by: str, groups: Sequence[Group]) -> None:
    rows = [(by, "pairs", "accuracy", "95 %", "margin", "95 %")]
    for group in groups[:_GROUPS]:
        accuracy, margin = group.accuracy, group.margin
        rows.append(
            (
                group.name,
                f"{group.pairs:,}",
                f"{accuracy.value:.2f}",
                f"{accuracy.low:.2f} to {accuracy.high:.2f}",
                f"{margin.value:+z.3f}",
                "-" if margin.low is None else f"{margin.low:+z.2f} to {margin.high:+z.2f}",
            )
        )
    table(rows, optional=["95 %"])
    if len(groups) > _GROUPS:
        say(f"… and {len(groups) - _GROUPS} more with higher margins; all with --json")


def _draw_samples(samples: Sequence[Sample]) -> None:
    for sample in samples:
        say()
        trained = "(the same)" if sample.adapter and sample.adapter == sample.base else sample.adapter
        for label, text in (("prompt", sample.prompt), ("base", sample.base), ("trained", trained)):
            _draw_text(label, text if text.strip() else "(empty)")


def _draw_suspects(suspects: Sequence[Suspect]) -> None:
    for one in suspects[:_SUSPECTS]:
        say()
        say(f"{f'row {one.row:,}':<{LABEL}}margin {one.margin:+.2f}, {one.score:.1f} spreads below the median", indent=LABEL)
        for label, text in (("prompt", one.prompt), ("chosen", one.chosen), ("rejected", one.rejected)):
            _draw_text(label, text)


def _draw_text(label: str, text: str) -> None:
    """Prints one message per line, only the last ones of a long conversation."""
    from ..data.text.chat import turns

    messages = turns(text)
    left = len(messages) - _TURNS
    if left > 0:
        messages = [f"… {left} earlier message{'s' * (left > 1)}", *messages[left:]]
    facts({label: "\n".join(map(_short, messages))})


def _short(text: str) -> str:
    """``text`` in one line, cut to the length of about three lines."""
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else line[: _TEXT - 1] + "…"


VERBS: tuple[click.Command, ...] = (learned, score)
