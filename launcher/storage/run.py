"""A run's adapter in the store: under which key it lies, and what the run's record says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ..errors import UploadError
from ..experiment.schema import Experiment, StorageConfig
from ..runs.run_dir import RunDir
from .client import EFFORT, Effort
from .progress import Listener
from .upload import Uploaded, upload_folder


def key_parts(experiment: Experiment, *names: str) -> tuple[str, ...]:
    """``exp_<id>/<model>/<run>``: what follows the object_prefix; ``names``: the run's, and what lies in it."""
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
    """Uploads the run's adapter, and enters that into its record; a run that failed for the upload alone is done then.

    Raises what :func:`upload_folder` raises; the adapter and the record stay as they were.
    """
    parts = key_parts(experiment, run.name)
    uploaded = upload_folder(run.adapter, storage=storage, prefix_parts=parts, env=env, effort=effort, listener=listener)
    server = {"endpoint_url": storage.endpoint_url, "region": storage.region}  # not always that of the run's own experiment
    fields = {"uploaded": asdict(uploaded) | server}
    outcome = run.read_record().get("outcome") or {}
    if outcome.get("exit_code") == UploadError.exit_code:
        sentence = "done: trained, and uploaded afterwards"
        fields["outcome"] = {**outcome, "state": "done", "exit_code": 0, "sentence": sentence}
    run.update_record(**fields)
    return uploaded
