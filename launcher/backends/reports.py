"""Which runs a report or a comparison is of: those whose folders are on this machine, each with its state by its backend."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..report.reported import Reported
from ..runs.run_dir import RunDir
from .choose import backend_of
from .finding import find, local_runs_and_containers


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


def every() -> list[RunDir]:
    """Every run on this machine, newest first."""
    return local_runs_and_containers()
