"""Stopping a run from outside, with a checkpoint or at once."""

from __future__ import annotations

from collections.abc import Callable

from ..runs.known import newest_metric
from . import Run, Runs
from .status.state import Ended, ended


def stop(where: Runs[Run], run: Run, *, now: bool, say: Callable[[str], None], warn: Callable[[str], None]) -> Ended:
    """Stops ``run`` and returns when it is over; ``now``: at once, without a checkpoint.

    ``say`` is told what is waited for, ``warn`` why the run cannot be seen for a while.
    """
    stepped = _has_stepped(where, run)
    before = where.stop(run, now=now)
    if before.is_over and not now:
        say(f"{run.name} has already ended")
    elif not now and not where.status(run).is_over:
        late = where.unseen(run)
        why = f", {late} s of them until its pod sees the request, as no command reaches it (pods/exec)" if late else ""
        most = f"at most {where.grace(run) + late} s{why}; kill it now with: launcher stop --now {run.name}"
        what = "the current step and a checkpoint" if stepped else "its end; it has not trained a step and writes no checkpoint"
        say(f"{run.name}: waiting for {what} ({most})")
        where.wait(run, warn)
    return ended(where, run)


def _has_stepped(where: Runs[Run], run: Run) -> bool:
    last = newest_metric(where.tail(run))
    return last is not None and last.kind == "train"
