"""Resolves RUN or PATH to trained weights."""

from __future__ import annotations

from pathlib import Path

from ..backends.status.finding import find, local_run, on_cluster
from ..errors import UsageError
from ..job.target import Target

__all__ = ["Target", "target"]


def target(name: str) -> Target:
    """The weights that ``name`` means: a run of this machine, or the folder of a run, an adapter or a model.

    A run wins over a folder with the same name. Raises UsageError if there are no such weights on this machine; for a run on
    the cluster the message names the command that downloads it.
    """
    if (Path(name) / "run.json").is_file():
        return Target.of(Path(name))
    if "/" not in name:
        try:
            return Target.of(local_run(name).path)
        except UsageError:
            if not Path(name).is_dir():
                return Target.of(_found(name))
    if not Path(name).is_dir():
        raise UsageError(f"folder {name} not found")
    return Target.of(Path(name))


def _found(name: str) -> Path:
    where, found = find(name)
    there = on_cluster(where, found)
    if there is not None:
        download = f"launcher download {found.name} -n {there[1].namespace} --all"
        raise UsageError(
            f"{found.name} is on the cluster. Download it with: {download}\n"
            f"    hint:     then name its folder instead of the run: ./{found.name}"
        )
    path: Path = found.path
    return path
