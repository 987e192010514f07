"""Connects the ranks of a run, before anything else."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from accelerate import PartialState
from accelerate.utils import gather_object

from launcher.errors import ExperimentError, Mistake
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

from ..bucket import has_own_runs
from .extensions import outlive_builders
from .machine import Device
from .sharding import is_sharded, leave_out_shared_memory

DDP_TIMEOUT: Final = 1800  # seconds, transformers' default of ddp_timeout


def patience(experiment: Experiment) -> int:
    """How many seconds a rank waits for the others."""
    return int(experiment.hyperparameters.trl.get("ddp_timeout", DDP_TIMEOUT))


def join(run: RunDir, experiment: Experiment, device: Device) -> None:
    """Connects to the other ranks, and checks that all of them share the run's folder: several ranks write a checkpoint.

    Raises ExperimentError if they do not, unless each node has a folder of its own and its checkpoints in a bucket.
    """
    if device.world == 1 and not is_sharded():
        return
    timeout = timedelta(seconds=patience(experiment))
    if is_sharded():
        outlive_builders()
        if not device.cuda:
            leave_out_shared_memory()
        # Without a name, accelerate finds no backend for DeepSpeed on a CPU.
        PartialState(backend="nccl" if device.cuda else "gloo", timeout=timeout)
    else:
        PartialState(cpu=not device.cuda, timeout=timeout)
    if has_own_runs():
        return
    token = run.path / f".shared-{gather_object([os.urandom(8).hex()])[0]}"
    if device.rank == 0:
        token.touch()
    gather_object([None])
    missing = not is_there(token)
    blind = [rank for rank, is_missing in enumerate(gather_object([missing])) if is_missing]
    if device.rank == 0:
        token.unlink(missing_ok=True)
    if blind:
        what = f"rank(s) {', '.join(map(str, blind))} cannot see the run's folder; every rank writes a part of a checkpoint"
        raise ExperimentError(Mistake("hyperparameters.model_output_dir", what, "a folder that all nodes share", str(run.path)))


def is_there(path: Path, patience: float = 15) -> bool:
    """Whether ``path`` appears within ``patience`` seconds; a network file system may show it late."""
    deadline = time.monotonic() + patience
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
