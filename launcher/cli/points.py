"""Prints the points of a sweep: the ranked table, the next command, and why a point waits or failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .terminal.screen import LABEL, facts, notices, say, table, this_launcher, typed

if TYPE_CHECKING:
    from ..launch.sweeps.found import Swept
    from ..launch.sweeps.grid import Outcome
    from ..runs.known import Known


def show_why(found: Swept, as_json: bool) -> None:
    """Prints why each unfinished point waits, runs or failed."""
    points = found.explained()
    if as_json:
        given = [{"run": run, "settings": list(point.settings), "why": why and why.json()} for point, run, why in points]
        click.echo(json.dumps({"sweep": found.name, "points": given}, indent=2, ensure_ascii=False))
        return
    for point, run, why in points:
        say(f"{run}  {point}  {'not started' if why is None else why.state}")
        if why is not None:
            facts({"why": why.why.sentence, "what to do": typed(why.why.suggestion)})
        elif not found.is_swept:
            facts({"why": "no process starts it", "what to do": f"{this_launcher()} resume {found.name}"})
        else:
            facts({"why": "it waits for the points before it"})
    if not points:
        say(f"every point of {found.name} is done")


def show_status(found: Swept, as_json: bool) -> None:
    outcomes = found.outcomes()
    if as_json:
        click.echo(json.dumps({"sweep": found.name, "points": [one.json() for one in outcomes]}, indent=2, ensure_ascii=False))
        return
    draw(found.name, outcomes, is_swept=found.is_swept, resumable=found.resumable(outcomes))


def draw(name: str, outcomes: Sequence[Outcome], *, is_swept: bool, resumable: Sequence[str] = ()) -> None:
    """Prints the points, best first, and the next command. ``is_swept``: a process is starting the missing ones.

    ``resumable``: points that can be resumed while the others run.
    """
    from ..launch.sweeps.grid import in_words, is_ranked_by_loss, rank_notices, ranked
    from .states import quality, state_of

    best_first = ranked(outcomes)
    keys = [setting.partition("=")[0] for setting in outcomes[0].point.settings]
    short = [key.rpartition(".")[2] for key in keys]
    heads = [key if short.count(word) > 1 else word for key, word in zip(keys, short, strict=True)]
    by_loss = is_ranked_by_loss(outcomes)
    figures, judged = (_held_out, ("VALIDATION LOSS",)) if by_loss else (quality, ("ACCURACY", "MARGIN"))
    rows: list[tuple[str, ...]] = [("RUN", *heads, *judged, "LOSS", "STATE", "TOOK")]
    for one in best_first:
        values = [setting.partition("=")[2] for setting in one.point.settings]
        known = one.known
        if known is None:
            rows.append((one.run, *values, *("-" for _ in judged), "-", one.state, "-"))
            continue
        loss = "-" if known.loss is None else f"{known.loss:z.4f}"
        rows.append((one.run, *values, *figures(known), loss, state_of(known), known.took))
    table(rows, optional=("TOOK", "LOSS", "MARGIN"))
    notices(rank_notices(outcomes))
    for one in best_first:
        if one.known is not None and one.known.state in ("failed", "lost"):
            sentence = (one.known.sentence or "it printed no reason").splitlines()[0]
            say(f"{one.run}: {sentence} (see: {this_launcher()} why {one.run})", indent=4)
    _next(name, best_first, is_swept=is_swept)
    if resumable:
        command = f"{this_launcher()} resume {resumable[0]}"
        say(f"{in_words(resumable)} did not finish. Resume one beside the others with: {command}")


def _held_out(run: Known) -> tuple[str, ...]:
    """The validation loss. It ranks SFT runs, whose pairs have no second answer."""
    return ("-" if run.validation_loss is None else f"{run.validation_loss:z.4f}",)


def _next(name: str, best_first: Sequence[Outcome], *, is_swept: bool) -> None:
    done = [one.run for one in best_first if one.is_done]
    if done:
        say(f"{'best':<{LABEL}}{done[0]}")
    if len(done) > 1:
        say(f"{'next':<{LABEL}}{this_launcher()} compare {' '.join(done)}")
    if len(done) < len(best_first):
        what = (
            f"Follow it with: {this_launcher()} logs -f {name}"
            if is_swept
            else f"Resume it with: {this_launcher()} resume {name}"
        )
        say(f"{len(done)} of {len(best_first)} points are done. {what}")
