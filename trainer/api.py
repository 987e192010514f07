"""The Python API: the same experiment, run folder and training as the command line."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Unpack

from pydantic import ValidationError

from launcher.errors import CredentialError, ExperimentError, LauncherError, Mistake, UsageError, Warned
from launcher.experiment.cautions import cautions
from launcher.experiment.files import load, read_env
from launcher.experiment.problems import every_problem
from launcher.experiment.resolved import resolved
from launcher.experiment.schema import Experiment, StorageConfig
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.text.flow import flow
from launcher.experiment.unused import without_effect
from launcher.experiment.variables import check_addresses
from launcher.job.starting import check_starting, paired
from launcher.redact import learn_environment
from launcher.runs.finding import remember
from launcher.runs.names import new_run_name
from launcher.runs.run_dir import RunDir

from .output import notices, stage, using
from .processes.attempts import write_end, write_start
from .processes.ending import how_it_failed
from .processes.entrypoint import notify, write_report
from .processes.ranks.quiet import without_deprecations
from .processes.verdict import Ending
from .processes.webhook.notify import HURRY, PATIENCE
from .screen import screen
from .settings import Settings, documented, signature
from .trained import Trained

__all__ = ["DPOTrainer", "Hyperparameters", "StorageConfig", "Trained", "YamlConfigLoader"]

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,69}")


class YamlConfigLoader:
    """Reads the experiments of a folder.

    >>> config = YamlConfigLoader(base_dir="configs").load("experiments.yml", "exp_1")
    >>> DPOTrainer(**config).train()
    """

    def __init__(self, base_dir: str | Path = "."):
        self._base = Path(base_dir)

    def load(
        self, file: str | Path, experiment: str | None = None, overrides: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """The arguments of :class:`DPOTrainer` for ``experiment``: its ``key``, and each setting that the file has.

        ``experiment`` is a key or an id, by default the file's only experiment. A relative ``file`` lies in ``base_dir``.
        ``overrides`` are other values for some settings, like ``--set``: ``{"hyperparameters.learning_rate": 1e-5}``.
        Sections are typed (``Hyperparameters``, ``StorageConfig``, …) and frozen. Raises ExperimentError with every mistake in
        the file.
        """
        values = [f"{path}={flow(value)}" for path, value in overrides.items()]
        loaded = load(experiment, file=self._base / file, overrides=values)
        found = loaded.experiment
        return {
            "key": loaded.key,
            **{name: getattr(found, name) for name in Experiment.model_fields if name in found.model_fields_set},
        }


class DPOTrainer:
    """Trains one experiment in this process. For several GPUs or nodes use ``launcher run`` or ``launcher submit``.

    >>> trained = DPOTrainer(model_name="Qwen/Qwen3-0.6B", datasets_path="examples/dpo_csv").train()
    >>> print(trained)

    ``key`` names the runs, by default the experiment's id. Sections are given as their classes or as dicts.
    """

    def __init__(self, model_name: str, *, key: str | None = None, **settings: Unpack[Settings]):
        """Checks all settings; raises ExperimentError with every mistake. Only :meth:`train` needs data."""
        self._given = {"model_name": model_name, **{name: _plain(value) for name, value in settings.items()}}
        self.experiment = _parsed(self._given, needs_data=False)
        self.key = self.experiment.experiment_id if key is None else _checked(key)
        self.run: RunDir | None = None

    def train(self, progress: str = "auto") -> Trained:
        """Trains into a new run below ``model_output_dir`` of the working directory; returns its paths and figures.

        ``progress``: ``bar``, ``print`` (short lines) or ``none``; ``auto``: a bar in a notebook or terminal, else ``print``.

        Raises a LauncherError that names what is wrong: ExperimentError (settings), DataError (rows), CredentialError,
        MemoryShortage (the device's), HealthError (a rule that stops, or NaN), UnreachableError (a hub or store does not answer)
        or UploadError (trained, and the adapter is in its folder). Its ``exit_code`` is that of ``launcher run``.
        """
        env = read_env(Path())
        found = paired(_parsed(self._given, needs_data=True), Path(), env)
        self.experiment = found.experiment
        check_starting(self.experiment, Path(), env)
        output = screen(progress, self.experiment.global_batch)
        check_addresses(self.experiment, env)
        token = env.get("HF_TOKEN")
        if token:  # the hub's client reads the environment alone
            os.environ["HF_TOKEN"] = token
        self._name_webhook(env)
        # TRL refuses several visible GPUs in one process; must be set before torch looks at them.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        with closing(output), using(output), without_deprecations():
            notices([*without_effect(self._given), *cautions(self.experiment), *found.said])
            with stage("importing torch and transformers"):
                from .processes.stop import StopRequest
                from .train import Roots, train
            self.run = run = self._new_run()
            try:
                _check_copies(run, self.experiment, env)
                train(run, self.experiment, replace(Roots.from_environment(), run=Path.cwd()), StopRequest(), attempt=1)
            except BaseException as error:
                _write_last(run, _ending(error), env)
                raise
        _write_last(run, Ending("done", 0, "done"), env)
        return Trained.of(run)

    def _name_webhook(self, env: Mapping[str, str]) -> None:
        """Raises CredentialError where the variable that ``notify`` names is not set."""
        name = self.experiment.notify
        if name is None:
            return
        if not env.get(name):
            raise CredentialError(f"notify: {name} not set; set it in your environment or in .env")
        os.environ[name] = env[name]
        learn_environment([name])

    def _new_run(self) -> RunDir:
        """The folder and the record of a new run."""
        experiment = self.experiment
        folder = experiment.hyperparameters.model_output_dir
        run = RunDir.of(Path.cwd(), folder, experiment.experiment_id, experiment.model_folder, new_run_name(self.key))
        record = {
            "run": run.name,
            "key": self.key,
            "experiment_id": experiment.experiment_id,
            "topic": experiment.topic,
            "model_name": experiment.model_name,
            "backend": "python",
            "folder": str(run.path),
            "experiment": experiment.model_dump(mode="json"),
        }
        notice = remember(Path.cwd(), run)
        if notice is not None:
            notices([Warned(notice)])
        run.create({run.experiment: resolved(experiment)}, record)
        write_start(run, 1)
        return run

    def save_model(self, model_path: str | os.PathLike[str] | None = None) -> str:
        """Uploads an adapter's folder to ``storage_config``; returns its address.

        ``model_path`` defaults to the adapter that :meth:`train` made; with it no data are needed. Raises UsageError without
        folder or storage_config, CredentialError where the store refuses the credentials, UploadError where the upload fails.
        """
        from launcher.storage import Lines, key_parts, upload_folder, upload_run

        folder = Path(model_path) if model_path is not None else self.run.adapter if self.run else None
        if folder is None:
            raise UsageError("save_model: no adapter yet; call train() first, or give model_path, the folder of an adapter")
        if not folder.is_dir():
            raise UsageError(f"save_model: folder {folder} not found")
        storage = self.experiment.storage_config
        if storage is None or storage.bucket_name is None:
            raise UsageError("save_model needs a storage_config with a bucket_name")
        env, lines = read_env(Path()), Lines("uploaded", print)
        folder = folder.resolve()
        run = next((RunDir(above) for above in (folder, *folder.parents) if (above / "run.json").is_file()), None)
        if run is not None and folder in (run.path, run.adapter):
            return upload_run(run, self.experiment, storage=storage, env=env, listener=lines).uri
        # The name of the run tells uploads of one experiment apart.
        names = (folder.name,) if run is None else (run.name, *folder.relative_to(run.path).parts)
        if run is None and folder.name == "adapter":
            names = (folder.parent.name,)
        parts = key_parts(self.experiment, *names)
        return upload_folder(folder, storage=storage, prefix_parts=parts, env=env, listener=lines).uri

    save_existing_model = save_model


# What `help(DPOTrainer)` and an editor show: the keys of an experiment, from its schema.
DPOTrainer.__signature__ = signature(inspect.signature(DPOTrainer.__init__))  # type: ignore[attr-defined]
DPOTrainer.__doc__ = f"{inspect.cleandoc(DPOTrainer.__doc__ or '')}\n\n{documented()}\n"


def _parsed(given: Mapping[str, Any], *, needs_data: bool) -> Experiment:
    """The experiment of ``DPOTrainer``'s arguments; raises ExperimentError with every mistake."""
    try:
        return Experiment.parse(given, needs_data=needs_data)
    except ValidationError as error:
        problems = every_problem(given, error, needs_data=needs_data)
    # Outside the handler: pydantic's traceback would hide the message.
    raise ExperimentError(
        [Mistake(f"DPOTrainer({'.'.join(map(str, p.loc))})", p.what, p.expected, p.found, p.hint) for p in problems]
    )


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        what = "key names folders: use letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 70"
        raise UsageError(f"{what}; found {key!r}")
    return key


def _check_copies(run: RunDir, experiment: Experiment, env: Mapping[str, str]) -> None:
    """Raises what ``Mirrored.check`` raises where the checkpoints cannot be copied to ``checkpoint_to``."""
    from launcher.storage import Mirrored

    place = Mirrored.of(experiment, run.name, env)
    notices([] if place is None else place.check())


def _keep_copies(run: RunDir, ending: Ending) -> None:
    """Copies the adapter, the record and the logs to ``checkpoint_to``; what fails is a warning, as they are in the folder."""
    from .processes.bucket import Bucket

    try:
        bucket = Bucket.of(run, 0, lambda: False)
        if bucket is not None:
            bucket.keep(is_done=ending.state == "done", is_brief=ending.state == "aborted")
    except LauncherError as error:
        notices([Warned(f"record and adapter are not in checkpoint_to: {error}")])


def _write_last(run: RunDir, ending: Ending, env: Mapping[str, str]) -> None:
    write_end(run, ending)
    run.update_record(process=None)  # this process lives on: without it, the record is believed
    write_report(run)
    _keep_copies(run, ending)
    notify(run, ending, env, patience=HURRY if ending.state == "aborted" else PATIENCE)


def _ending(error: BaseException) -> Ending:
    """The ending, for the run's record, of a training that raised ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return Ending("aborted", 130, "interrupted")
    code, sentence = (error.exit_code, str(error)) if isinstance(error, LauncherError) else how_it_failed(error)
    return Ending("failed", code, sentence)


def _plain(value: Any) -> Any:
    """A section as the mapping that made it, so that what was not set stays unset."""
    if isinstance(value, Hyperparameters):
        return {**{n: getattr(value, n) for n in value.model_fields_set if n != "trl"}, **value.trl}
    return dict(value) if isinstance(value, Mapping) else value
