"""A run's adapter in the store: its key, and its entry in the run's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ..errors import UploadError
from ..experiment.schema import Experiment, StorageConfig
from ..runs.run_dir import RunDir
from .client.store import EFFORT, Effort
from .progress import Listener
from .transfer.upload import Uploaded, upload_folder


def key_parts(experiment: Experiment, *names: str) -> tuple[str, ...]:
    """``exp_<id>/<model>/<run>``: the key after the object_prefix; ``names``: the run's name, and folders in it."""
    return (f"exp_{experiment.experiment_id}", experiment.model_folder, *names)


def upload_run(
    run: RunDir,
    experiment: Experiment,
    *,
    storage: StorageConfig,
    env: Mapping[str, str],
    effort: Effort = EFFORT,
    listener: Listener | None = None,
) -> Uploaded:
    """Uploads the run's adapter and records it; a run that failed only at the upload is then done.

    Raises what :func:`upload_folder` raises; then adapter and record are unchanged.
    """
    parts = key_parts(experiment, run.name)
    uploaded = upload_folder(run.adapter, storage=storage, prefix_parts=parts, env=env, effort=effort, listener=listener)
    server = {"endpoint_url": storage.endpoint_url, "region": storage.region}  # not always that of the run's own experiment
    what = {name: value for name, value in asdict(uploaded).items() if name != "notices"}
    fields = {"uploaded": what | server}
    outcome = run.read_record().get("outcome") or {}
    if outcome.get("exit_code") == UploadError.exit_code:
        sentence = "done: trained, and uploaded afterwards"
        fields["outcome"] = {**outcome, "state": "done", "exit_code": 0, "sentence": sentence}
    run.update_record(**fields)
    return uploaded
