"""The Python API: the seed page's classes over the same experiment, run folder and training line as the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launcher.errors import ExperimentError, LauncherError, Mistake, UsageError
from launcher.experiment.files import load, read_env
from launcher.experiment.hyperparameters import Hyperparameters
from launcher.experiment.problems import every_problem
from launcher.experiment.schema import Experiment, StorageConfig
from launcher.runs.run_dir import RunDir, new_run_name

from .processes.ending import how_it_failed
from .processes.entrypoint import Ending, write_end, write_start

__all__ = ["DPOTrainer", "StorageConfig", "YamlConfigLoader"]


class YamlConfigLoader:
    """Reads experiments of a folder: ``DPOTrainer(**YamlConfigLoader("configs").load("experiments.yml", "exp_1"))``."""

    def __init__(self, base_dir: str | Path = "."):
        self._base = Path(base_dir)

    def load(self, file: str | Path, experiment: str | None = None) -> dict[str, Any]:
        """What was set for ``experiment`` (key or id; the file's only one by default) under :class:`DPOTrainer`'s names.

        Sections are typed (``Hyperparameters``, ``StorageConfig``, …). Raises ExperimentError for every mistake in the file.
        """
        loaded = load(experiment, root=self._base, file=self._base / file).experiment
        return {name: getattr(loaded, name) for name in Experiment.model_fields if name in loaded.model_fields_set}


class DPOTrainer:
    """Trains one experiment in this process; multi-GPU runs are for ``launcher run``.

    >>> DPOTrainer(model_name="Qwen/Qwen3-0.6B", datasets_path="examples/dpo_csv").train()
    """

    def __init__(self, model_name: str, **settings: Any):
        """``settings``: any key of an experiment; sections as their classes or as mappings. Raises ExperimentError."""
        plain = {name: _plain(value) for name, value in settings.items()}
        try:
            self.experiment = Experiment.parse({"model_name": model_name, **plain})
        except ValidationError as error:
            raise ExperimentError(
                [
                    Mistake(f"DPOTrainer({'.'.join(map(str, p.loc))})", p.what, p.expected, p.found, p.hint)
                    for p in every_problem({"model_name": model_name, **plain}, error)
                ]
            ) from error
        self.run: RunDir | None = None

    def train(self) -> Path:
        """Trains into a new run below ``model_output_dir`` of the working directory; returns the adapter's folder.

        Raises a LauncherError that says what is wrong with experiment, data or device, or that the training stopped.
        """
        token = read_env(Path()).get("HF_TOKEN")
        if token:  # the hub's client looks in the environment alone
            os.environ["HF_TOKEN"] = token
        # TRL refuses several visible GPUs in one process; must be set before torch looks at them.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        from .processes.stop import StopRequest
        from .train import Roots, train

        experiment = self.experiment
        run = RunDir.of(
            Path.cwd(),
            experiment.hyperparameters.model_output_dir,
            experiment.experiment_id,
            experiment.model_folder,
            new_run_name(experiment.experiment_id),
        )
        record = {
            "run": run.name,
            "key": experiment.experiment_id,
            "experiment_id": experiment.experiment_id,
            "topic": experiment.topic,
            "model_name": experiment.model_name,
            "backend": "python",
            "folder": str(run.path),
            "experiment": experiment.model_dump(mode="json"),
        }
        run.create({run.experiment: experiment.model_dump_json(indent=2)}, record)
        write_start(run, 1)
        self.run = run
        try:
            train(run, experiment, replace(Roots.from_environment(), run=Path.cwd()), StopRequest(), attempt=1)
        except BaseException as error:
            _write_last(run, _ending(error))
            raise
        _write_last(run, Ending("done", 0, "done"))
        return run.adapter

    def save_model(self, model_path: str | Path | None = None) -> str:
        """Uploads an adapter's folder to ``storage_config`` and returns its address.

        ``model_path`` defaults to the adapter that :meth:`train` made. Raises UsageError without folder or storage_config,
        CredentialError where the store refuses, UploadError where it fails.
        """
        from launcher.storage import Lines, key_parts, upload_folder, upload_run

        folder = Path(model_path) if model_path is not None else self.run.adapter if self.run else None
        if folder is None:
            raise UsageError("save_model: nothing was trained yet; give model_path, the folder of an adapter")
        if not folder.is_dir():
            raise UsageError(f"save_model: there is no folder {folder}")
        storage = self.experiment.storage_config
        if storage is None or storage.bucket_name is None:
            raise UsageError("save_model: storage_config with a bucket_name is needed")
        env, lines = read_env(Path()), Lines("uploaded", print)
        folder = folder.resolve()
        run = RunDir(folder.parent)
        if folder == run.adapter and run.record.is_file():
            return upload_run(run, self.experiment, storage=storage, env=env, listener=lines).uri
        # An adapter's folder lies in its run, whose name tells uploads of one experiment apart.
        parts = key_parts(self.experiment, run.name if folder.name == "adapter" else folder.name)
        return upload_folder(folder, storage=storage, prefix_parts=parts, env=env, listener=lines).uri

    save_existing_model = save_model


def _write_last(run: RunDir, ending: Ending) -> None:
    write_end(run, ending)
    run.update_record(process=None)  # this process lives on: without it, the record is believed


def _ending(error: BaseException) -> Ending:
    """What the run's record says of a training that ended with ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return Ending("aborted", 130, "interrupted")
    code, sentence = (error.exit_code, str(error)) if isinstance(error, LauncherError) else how_it_failed(error)
    return Ending("failed", code, sentence)


def _plain(value: Any) -> Any:
    """A section as the mapping that made it, so that what was not set stays unset."""
    if isinstance(value, Hyperparameters):
        return {**{n: getattr(value, n) for n in value.model_fields_set if n != "trl"}, **value.trl}
    return dict(value) if isinstance(value, Mapping) else value
