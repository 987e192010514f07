"""Rebuilds the job of a run from its folder, to resume or repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import LauncherError
from ..experiment.schema import Experiment
from ..runs.run_dir import RunDir
from .job import Job, plan
from .topology import DDP, Parallelism


@dataclass(frozen=True)
class Recorded:
    """How a run was started: experiment, DeepSpeed configuration and record (``run.json``)."""

    run: str
    experiment: Experiment
    parallelism: Parallelism
    record: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, run: RunDir) -> Recorded:
        """Reads the run's folder. Raises LauncherError if the files are missing."""
        try:
            deepspeed = run.deepspeed.read_text(encoding="utf-8") if run.deepspeed.is_file() else None
            return cls.parsed(run.name, run.experiment.read_text(encoding="utf-8"), deepspeed, run.read_record())
        except (OSError, ValueError) as error:
            raise LauncherError(f"cannot read how {run.path} was started: {error}") from error

    @classmethod
    def parsed(cls, run: str, experiment: str, deepspeed: str | None, record: Mapping[str, Any]) -> Recorded:
        """From the text of ``experiment.json`` and ``deepspeed.json``. Raises ValueError if it cannot be parsed."""
        found = Experiment.model_validate_json(experiment)
        parallelism = DDP if deepspeed is None else Parallelism(found.launch.parallelism, json.loads(deepspeed))
        return cls(run, found, parallelism, record)

    @property
    def key(self) -> str:
        return str(self.record.get("key", self.experiment.experiment_id))

    def changed(self, experiment: Experiment) -> Recorded:
        return replace(self, experiment=experiment)

    def job(self, gpus_there: int) -> Job:
        """The same job again. Raises ExperimentError if machines with ``gpus_there`` GPUs cannot run it."""
        return plan(
            self.experiment,
            run=self.run,
            key=self.key,
            gpus_there=gpus_there,
            parallelism=self.parallelism,
            origin=self.record.get("origin"),
        )


def job_again(run: RunDir, gpus_there: int) -> Job:
    """The job of ``run`` with its own experiment and DeepSpeed configuration.

    Raises LauncherError if the folder lacks them, ExperimentError if this machine cannot run it.
    """
    return Recorded.of(run).job(gpus_there)
