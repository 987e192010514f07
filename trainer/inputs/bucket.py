"""Transfers between a training and a bucket: downloads a model or an adapter from ``s3://…``, uploads the adapter."""

from __future__ import annotations

from pathlib import Path

from accelerate.utils import gather_object

from launcher.errors import CredentialError, ExperimentError, Mistake, StorageError, UnreachableError, UploadError, Warned
from launcher.experiment.files import read_env
from launcher.experiment.schema import Experiment
from launcher.job.adapter_config import ADAPTER
from launcher.runs.run_dir import RunDir, expanded
from launcher.storage import Lines, check_bucket, fetch_folder, key_parts, upload_run

from ..output import EVERY, notices, say, stage
from ..processes.waiting import AT_ONCE, Waiting


def model_path(experiment: Experiment, data_root: Path, cache: Path, *, first: bool, waiting: Waiting = AT_ONCE) -> str:
    """A hub id, or the model's folder. One rank of each node downloads an ``s3://…`` model into ``cache``.

    Raises ExperimentError if there is no model, StorageError if the ranks hold different versions, and what ``fetch_folder``
    raises.
    """
    name = experiment.model_name
    if not name.startswith("s3://"):
        folder = data_root / expanded(name)
        return str(folder) if folder.is_dir() else name
    found = folder_from_bucket(experiment, "model", name, cache, first=first, waiting=waiting)
    if not any((found / name).is_file() for name in ("config.json", ADAPTER)):
        there = ", ".join(sorted(path.name for path in found.iterdir())[:5])
        raise ExperimentError(Mistake("model_name", f"no model in {name}", "a folder with config.json", there))
    if first:
        say(f"model: {name}, cached in {found}")
    return str(found)


def folder_from_bucket(experiment: Experiment, what: str, name: str, cache: Path, *, first: bool, waiting: Waiting) -> Path:
    """The local copy of ``name`` (``s3://…``), downloaded by one rank of each node. ``what``: adapter or model, for the message.

    Raises StorageError if the ranks hold different versions, and the errors of ``fetch_folder``.
    """
    lines = Lines("downloaded", say) if first else None
    with stage(f"downloading {name}", after=EVERY):
        storage, env = experiment.storage_config, read_env(Path())
        found = waiting(lambda: fetch_folder(name, storage=storage, env=env, cache=cache, listener=lines))
    if len(set(gather_object([found.name]))) > 1:  # the same contents have the same folder
        raise StorageError(f"{name}: the {what} changed during the download: the ranks hold different versions; start again")
    return found


def check_upload(experiment: Experiment, run: RunDir) -> None:
    """Before training: raises CredentialError or ExperimentError if the later upload cannot work.

    A store that does not answer is only a warning: it need not answer before training is over.
    """
    storage = experiment.storage_config
    if storage is None or not storage.upload_to_cloud:
        return
    try:
        with stage("checking the bucket"):
            notices(check_bucket(storage, read_env(Path()), key_parts(experiment, run.name)))
    except (StorageError, UnreachableError) as error:
        notices([Warned(f"cannot check the bucket; the upload is tried anyway after the training: {error}")])


def upload_adapter(experiment: Experiment, run: RunDir) -> None:
    """After training. Raises UploadError for any cause: the adapter is complete, and a retry only uploads it."""
    storage = experiment.storage_config
    if storage is None or not storage.upload_to_cloud:
        return
    lines = Lines("uploaded", say)
    try:
        with stage("uploading the adapter", after=EVERY):
            done = upload_run(run, experiment, storage=storage, env=read_env(Path()), listener=lines)
    except (UploadError, CredentialError) as error:
        what = f"the adapter is complete in {run.adapter}, but its upload failed: {error}"
        raise UploadError(f"{what}\nUpload it with: launcher upload {run.name}") from error
    notices(done.notices)
    say(f"uploaded {done.objects} objects, {done.bytes:,} bytes, to {done.uri}")
