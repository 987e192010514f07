"""The job of a run that is resumed, from what its folder holds."""

from __future__ import annotations

import json

from ..errors import LauncherError
from ..experiment.schema import Experiment
from ..runs.run_dir import RunDir
from .job import Job, plan
from .topology import DDP, Parallelism


def job_again(run: RunDir, gpus_there: int) -> Job:
    """The job of ``run`` with its own experiment and DeepSpeed configuration.

    Raises LauncherError where the folder does not have them, ExperimentError where this machine cannot run it.
    """
    try:
        experiment = Experiment.model_validate_json(run.experiment.read_text(encoding="utf-8"))
        parallelism = DDP
        if run.deepspeed.is_file():
            parallelism = Parallelism(experiment.launch.parallelism, json.loads(run.deepspeed.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise LauncherError(f"cannot resume {run.path}: {error}") from error
    record = run.read_record()
    return plan(
        experiment,
        run=run.name,
        key=str(record.get("key", experiment.experiment_id)),
        gpus_there=gpus_there,
        parallelism=parallelism,
        origin=record.get("origin"),
    )
