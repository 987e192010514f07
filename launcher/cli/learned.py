"""How a run's end is drawn: what it has learned, where its adapter is, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from .screen import LABEL, notices, say, this_launcher

if TYPE_CHECKING:
    from ..runs.learned import Learned


def draw(found: Learned) -> None:
    """Prints the figures before and after, the adapter, how to load it, and the next commands."""
    for line in _figures(found):
        say(line, indent=2)
    if found.displaced is not None:
        notices([found.displaced])
    verified = "" if found.tensors is None else f" ({found.tensors} tensors, read back and compared)"
    say(f"{'adapter':<{LABEL}}{found.adapter}{verified}", indent=LABEL)
    if found.uploaded is not None:
        say(f"{'uploaded':<{LABEL}}{found.uploaded}", indent=LABEL)
    commands = [f"{this_launcher()} {command}" for command in found.next]
    for label, lines in (("next", commands), ("in Python", found.python)):
        for number, line in enumerate(lines):
            click.echo(f"{'' if number else label:<{LABEL}}{line}")  # whole, to be copied


def _figures(found: Learned) -> Iterator[str]:
    figures = found.figures
    if figures is None:
        return
    yield figures.what
    widths = [max(10, len(moment) + 2) for moment in figures.moments]
    wide = max(len(row[0]) for row in figures.rows)
    for label, *cells in [("", *figures.moments), *figures.rows]:
        yield f"  {label:<{wide}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    for label, meaning in figures.meanings:
        yield f"  {label}: {meaning}"
