"""Target: trained weights in a folder: of a run, an adapter, or a whole model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import LauncherError, UsageError
from ..experiment.schema import Experiment
from ..runs.learned.summary import without
from ..runs.run_dir import RunDir
from .adapter_config import ADAPTER

MODEL: Final = "config.json"


@dataclass(frozen=True)
class Target:
    """What ``RUN|PATH`` means. ``folder``: of the run, the adapter or the model, absolute.

    ``adapter``: the adapter's folder, None for whole weights. ``base``: the adapter's base model, a hub id, a folder or s3://…;
    for whole weights without a run the folder itself. ``experiment``: the run's.
    """

    name: str
    folder: Path
    run: RunDir | None
    adapter: Path | None
    experiment: Experiment | None
    base: str

    @classmethod
    def of(cls, folder: Path) -> Target:
        """What ``folder`` contains. An adapter inside a run's folder belongs to the run.

        Raises UsageError if it contains none of them, LauncherError if its files cannot be read.
        """
        path = folder.resolve()
        for run in (path, path.parent) if path.name == "adapter" else (path,):
            if (run / "experiment.json").is_file():
                return cls._of_run(RunDir(run))
        if (path / ADAPTER).is_file():
            return cls(path.name, path, None, path, None, _base_of(path))
        if (path / MODEL).is_file():
            return cls(path.name, path, None, None, None, str(path))
        raise UsageError(
            f"{folder} holds no trained weights\n"
            f"    expected: the folder of a run, of an adapter ({ADAPTER}) or of a model ({MODEL})"
        )

    @classmethod
    def _of_run(cls, run: RunDir) -> Target:
        if not run.adapter.is_dir():
            raise UsageError(without(run.name, run.read_record(), "adapter"))
        try:
            experiment = Experiment.model_validate_json(run.experiment.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LauncherError(f"cannot read {run.experiment}: {error}") from error
        adapter = None if experiment.hyperparameters.full_finetuning else run.adapter
        return cls(run.name, run.path, run, adapter, experiment, experiment.model_name)

    @property
    def weights(self) -> Path:
        """The folder with the trained weights."""
        return self.folder if self.run is None else self.run.adapter

    @property
    def settings(self) -> Experiment:
        """The run's experiment; without a run one with defaults and this model."""
        if self.experiment is not None:
            return self.experiment
        return Experiment.parse({"model_name": self.base}, needs_data=False)


def _base_of(adapter: Path) -> str:
    file = adapter / ADAPTER
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise LauncherError(f"cannot read {file}: {error}") from error
    if not base:
        raise LauncherError(f"{file} names no base model (base_model_name_or_path)")
    return str(base)
