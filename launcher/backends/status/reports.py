"""Which runs a report or a comparison is of: those whose folders are on this machine, each with its state by its backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import LauncherError, UsageError
from ...health import worst
from ...report import page
from ...report.comparison import Comparison
from ...report.reported import Reported
from ...runs.run_dir import RunDir
from ..choose import backend_of
from .finding import find
from .state import local_runs_known


def reported(names: Sequence[str]) -> list[Reported]:
    """The runs that ``names`` mean, once each, in their order.

    Raises UsageError for a run that is not found, and for one whose folder is on a cluster, with the command that downloads it.
    """
    found: dict[RunDir, None] = {}
    for name in names:
        _, run = find(name)
        if not isinstance(run, RunDir):
            raise UsageError(
                f"the folder of {run.name} is on the cluster, not on this machine\n"
                f"    hint:     launcher download {run.name} --all, then name it by its folder: ./{run.name}"
            )
        found[run] = None
    return [of(run) for run in found]


def of(run: RunDir) -> Reported:
    """One run on this machine, with its state by its backend."""
    return Reported.of(run, backend_of(run).status(run))


@dataclass(frozen=True)
class Written:
    """A page; ``notices``: what makes the figures of its runs incomparable."""

    file: Path
    notices: tuple[str, ...]


def write(names: Sequence[str], file: Path | None) -> Written:
    """Writes the page of runs into ``file``, by default that of the run itself, or of several into this directory.

    Raises UsageError without a name and what ``reported`` raises, LauncherError where the file cannot be written.
    """
    if not names:
        raise UsageError("name a run, or list all with: launcher report --serve")
    runs = reported(names)
    place = file or (runs[0].run.report if len(runs) == 1 else Path(runs[0].run.report.name))
    try:
        page.write(runs, place)
    except OSError as error:
        raise LauncherError(f"cannot write {place}: {(error.strerror or str(error)).lower()}") from error
    return Written(place, Comparison.of(runs).notices if len(runs) > 1 else ())


def listing() -> list[dict[str, Any]]:
    """The rows of the list of all runs on this machine, newest first."""
    return [{**one.json(), "progress": one.progress, "took": one.took, "found": worst(one.health)} for one in local_runs_known()]
