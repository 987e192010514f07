"""How a run's end is drawn: what it has learned, where its adapter is, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from .screen import LABEL, say, this_launcher

if TYPE_CHECKING:
    from ..runs.learned import Learned

_FIGURES = (
    ("eval_rewards/accuracies", "accuracy", ".2f", "share of validation pairs whose chosen answer has the higher reward"),
    (
        "eval_rewards/margins",
        "margin",
        "+z.3f",
        "reward of chosen minus reward of rejected; reward = beta × log-probability ratio to the reference",
    ),
    ("eval_loss", "loss", "z.4f", "ln 2 = 0.6931 means no preference"),
)


def draw(found: Learned) -> None:
    """Prints the validation figures before and after, the adapter, how to load it, and the next commands."""
    for line in _figures(found):
        say(line, indent=LABEL)
    verified = "" if found.tensors is None else f" ({found.tensors} tensors, read back and compared)"
    say(f"{'adapter':<{LABEL}}{found.adapter}{verified}", indent=LABEL)
    if found.uploaded is not None:
        say(f"{'uploaded':<{LABEL}}{found.uploaded}", indent=LABEL)
    commands = [f"{this_launcher()} {command}" for command in found.next]
    for label, lines in (("next", commands), ("in Python", found.python)):
        for number, line in enumerate(lines):
            click.echo(f"{'' if number else label:<{LABEL}}{line}")  # whole, to be copied


def _figures(found: Learned) -> Iterator[str]:
    before, after = found.before, found.after
    if not before or not after:
        return
    yield "learned, on validation pairs that were not trained on:"
    yield f"  {'':<10}{'before':>8}{'after':>9}"
    shown = [one for one in _FIGURES if one[0] in before and one[0] in after]
    for name, label, spec, _ in shown:
        yield f"  {label:<10}{format(before[name], spec):>8}{format(after[name], spec):>9}"
    for _, label, _, meaning in shown:
        yield f"  {label:<10}{meaning}"
    if abs(before.get("eval_rewards/margins", 1)) < 1e-4:
        yield "  (before: a fresh adapter changes nothing, so every margin is 0)"
