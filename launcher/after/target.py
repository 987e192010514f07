"""Which trained weights a person means by RUN or PATH."""

from __future__ import annotations

from pathlib import Path

from ..backends.status.finding import find, local_run, on_cluster
from ..errors import UsageError
from ..job.target import Target

__all__ = ["Target", "target"]


def target(name: str) -> Target:
    """The weights of ``name``: a run of this machine, or the folder of a run, an adapter or a model.

    A run wins over a folder of its name. Raises UsageError where no weights on this machine are meant; for a run on the cluster
    it names the command that downloads it.
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
