"""How the ranks of a run share the work: by the name that the experiment gives, or the simplest way that fits."""

from __future__ import annotations

from pathlib import Path

from ..experiment import Experiment
from ..job import topology_of
from ..presets import read_parallelism
from ..topology import DDP, Parallelism


def choose_parallelism(experiment: Experiment, root: Path, gpus_there: int) -> Parallelism:
    """Raises ExperimentError for a name that is not known."""
    name = experiment.launch.parallelism
    if name != "auto":
        return read_parallelism(name, root)
    if topology_of(experiment.launch, gpus_there).world == 1:
        return DDP
    return DDP
