"""The metadata of a run's objects: labels by which they are found, and annotations that tell all of the run. Pure."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ....job.image import Image
from ....job.job import Job
from ....runs.run_dir import RunDir
from ....storage import Mirrored
from .names import label_value
from .placement import RUNS
from .volumes import volumes_of


def run_dir(job: Job) -> RunDir:
    """The run's folder in its pods."""
    e = job.experiment
    return RunDir.of(Path(RUNS), e.hyperparameters.model_output_dir, e.experiment_id, e.model_folder, job.run)


def below_claim(run: RunDir) -> PurePosixPath:
    """The run's folder, relative to the volume with the runs."""
    return PurePosixPath(run.path).relative_to(RUNS)


def labels(job: Job, user: str) -> dict[str, str]:
    """The labels by which a run's objects and pods are found."""
    return {
        "app.kubernetes.io/name": "dpo-launcher",
        "app.kubernetes.io/managed-by": "dpo-launcher",
        "app.kubernetes.io/component": "run",
        "dpo-launcher/run": label_value(job.run),
        "dpo-launcher/experiment": label_value(job.experiment.experiment_id),
        "dpo-launcher/user": label_value(user),
        **({"dpo-launcher/sweep": label_value(job.notes["sweep"]["name"])} if "sweep" in job.notes else {}),
        **job.experiment.launch.kubernetes.labels,
    }


def annotations_of(job: Job, user: str, image: Image, run: RunDir) -> dict[str, str]:
    """What ``ClusterRun`` reads: all that lists of runs show, without reading the claim."""
    facts = {
        "run": job.run,
        "key": job.key,
        "experiment": job.experiment.experiment_id,
        "user": user,
        "nodes": str(job.topology.nodes),
        "gpus": str(job.gpus),
        "nproc": str(job.topology.nproc),
        "world": str(job.world),
        "global-batch": str(job.experiment.global_batch),
        "folder": str(below_claim(run)),
        "image": image.reference,
        "origin": job.origin or "",
        **{name: str(job.notes.get("sweep", {}).get(key, "")) for name, key in (("sweep", "name"), ("point", "point"))},
        "settings": "\n".join(job.notes.get("sweep", {}).get("settings", ())),
    }
    facts |= _copies(job)
    ours = {f"dpo-launcher/{name}": value for name, value in facts.items() if value}
    return {**ours, **job.experiment.launch.kubernetes.annotations}


def _copies(job: Job) -> dict[str, str]:
    """Where the run's files are copied to, if its pods have only disks of their own."""
    place = Mirrored.of(job.experiment, job.run, {})
    if place is None or volumes_of(job.experiment)["runs"].is_kept:
        return {}
    return {"copies": place.uri, "store": place.storage.endpoint_url or "", "region": place.storage.region or ""}
