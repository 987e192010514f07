"""A rank of a run: what it was asked to do, on which device, and where it reads and writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import Stopped
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

from ..processes.bucket import has_own_runs
from ..processes.ranks.machine import Device
from ..processes.stop import StopRequest
from ..processes.waiting import Waiting


@dataclass(frozen=True)
class Roots:
    """Where this process reads and writes; relative paths of the experiment lie below these folders."""

    run: Path
    data: Path
    cache: Path
    splits: int = 0  # how often the micro-batch was halved in this run, because memory had run out

    @classmethod
    def from_environment(cls) -> Roots:
        cache = os.environ.get("DPO_CACHE_ROOT") or Path("~/.cache/dpo-launcher").expanduser()
        run, data = Path(os.environ.get("DPO_RUN_ROOT", ".")), Path(os.environ.get("DPO_DATA_ROOT", "."))
        return cls(run, data, Path(cache), int(os.environ.get("DPO_SPLITS", "0")))


@dataclass(frozen=True)
class Rank:
    """One process of a run, and what it was asked to do."""

    run: RunDir
    experiment: Experiment
    roots: Roots
    stop: StopRequest
    attempt: int
    device: Device

    @property
    def first(self) -> bool:
        return self.device.rank == 0

    @property
    def has_own_runs(self) -> bool:
        """Whether the run's nodes share no folder, and each writes a part of a checkpoint into its own."""
        return has_own_runs() and int(os.environ.get("DPO_NNODES", "1")) > 1

    @property
    def waiting(self) -> Waiting:
        """Waits for a server that is away, unless a stop is wanted."""
        return Waiting(lambda: self.stop_if_asked(next(reversed(self.run.checkpoints()), None)))

    def stop_if_asked(self, checkpoint: Path | None) -> None:
        """Raises Stopped where the run was asked to stop before its first step."""
        if self.stop.signal is not None:
            raise Stopped(before_first_step(checkpoint))


def before_first_step(checkpoint: Path | None) -> str:
    """The sentence of a run that was stopped before its first step."""
    then = "nothing to resume" if checkpoint is None else f"resumes from {checkpoint.name}"
    return f"stopped before the first step: {then}"
