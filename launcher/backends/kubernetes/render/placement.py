"""Where a run's inputs are in a pod, and how they get there. Pure; ``local.look`` reads the disk."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ....errors import ExperimentError, Mistake
from ....experiment.schema import Experiment
from ....experiment.sections.data_file import file_of
from ....experiment.sections.hub_data import REMOTE
from .guard import OWN_VOLUMES
from .volumes import CACHE, DATA, RUNS, VOLUMES, Volume, volumes_of, wrong_volumes

__all__ = ["CACHE", "DATA", "RUNS", "SMALL", "Folder", "Local", "Placement", "Staged", "place", "travels"]

_INPUTS: Final = OWN_VOLUMES["inputs"]
# A ConfigMap holds 1 MiB, including names and metadata.
SMALL: Final = 900 << 10  # bytes


@dataclass(frozen=True)
class Folder:
    """A folder of this machine, or some of its files. ``files``: names relative to ``path`` (with ``/``) -> bytes.

    ``digest``: SHA-256 in hex over names and contents.
    """

    path: Path
    files: Mapping[str, int]
    digest: str

    @property
    def size(self) -> int:
        return sum(self.files.values())


@dataclass(frozen=True)
class Local:
    """The inputs of an experiment that are on this machine.

    ``data``: the CSV files; ``contents``: of these files, if they are small enough for a ConfigMap; ``model``: a local model,
    ``adapter``: a local adapter to start from; ``ca``: the certificates of launch.ca_bundle.
    """

    data: Folder | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    model: Folder | None = None
    adapter: Folder | None = None
    ca: str | None = None


@dataclass(frozen=True)
class Staged:
    """A folder that is copied once for the pods: ``target`` is ``s3://…`` or a path in the pod, ``…/staged/<digest>/<name>``."""

    setting: str  # datasets_path, model_name or adapter
    folder: Folder
    target: str


@dataclass(frozen=True)
class Placement:
    """The experiment as the pods read it, the files in a ConfigMap and their folder, and what is staged.

    ``claims``: name of a volume (``runs``, ``cache`` …) -> its claim, for those that have one.
    """

    experiment: Experiment
    claims: Mapping[str, str]
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    folder: str = DATA
    staged: tuple[Staged, ...] = ()
    ca: str | None = None


def place(experiment: Experiment, local: Local) -> Placement:
    """Raises ExperimentError with every path that is not possible in a pod."""
    mistakes = list(wrong_volumes(experiment))
    if mistakes:
        raise ExperimentError(mistakes)
    volumes = volumes_of(experiment)
    has_data = "data" in volumes
    mistakes = [*_wrong_outputs(experiment)]
    changed: dict[str, Any] = {}
    staged: list[Staged] = []
    contents: Mapping[str, bytes] = {}
    folder = DATA
    if travels(experiment.datasets_path, experiment):
        wrong = _wrong_data(experiment, local)
        mistakes += wrong
        if not wrong and local.data is not None:
            if local.data.size <= SMALL:
                contents, name = local.contents, _inside(str(experiment.datasets_path)) or local.data.path.name
                # A mount point cannot be created on a claim that is mounted read-only.
                folder = f"{_INPUTS if has_data else DATA}/{name}"
                changed["datasets_path"] = folder if has_data else name
            else:
                staged.append(_stage(experiment, "datasets_path", local.data, local.data.path.name))
    elif experiment.datasets_path is not None:
        mistakes += _wrong_pod_path("datasets_path", experiment.datasets_path, volumes)
    if local.model is not None and travels(experiment.model_name, experiment):
        staged.append(_stage(experiment, "model_name", local.model, experiment.model_folder))
    else:
        mistakes += _wrong_pod_path("model_name", experiment.model_name, volumes)
    if experiment.adapter is not None and local.adapter is not None and travels(experiment.adapter, experiment):
        staged.append(_stage(experiment, "adapter", local.adapter, local.adapter.path.name))
    elif experiment.adapter is not None:
        mistakes += _wrong_pod_path("adapter", experiment.adapter, volumes)
    mistakes += _wrong_staged(staged, volumes["cache"])
    if mistakes:
        raise ExperimentError(mistakes)
    changed |= {one.setting: one.target for one in staged}
    return Placement(experiment.model_copy(update=changed), claims_of(experiment), contents, folder, tuple(staged), local.ca)


def claims_of(experiment: Experiment) -> dict[str, str]:
    """Name of a volume -> its claim."""
    return {name: one.claim for name, one in volumes_of(experiment).items() if one.claim is not None}


def travels(path: str | None, experiment: Experiment) -> bool:
    """Whether a path of the experiment is on this machine. With a volume for the data, relative paths are on it."""
    if path is None or path.startswith((*REMOTE, "/dpo/")):
        return False
    return "data" not in experiment.launch.kubernetes.volumes or _inside(path) is None


def _inside(path: str) -> str | None:
    """``path`` in its shortest form if it is relative and stays inside its folder, else None."""
    normal = posixpath.normpath(path)
    return None if path.startswith(("/", "~")) or normal in (".", "..") or normal.startswith("../") else normal


def _stage(experiment: Experiment, setting: str, folder: Folder, name: str) -> Staged:
    storage = experiment.storage_config
    root = CACHE
    if storage is not None and storage.bucket_name is not None:
        root = "/".join(("s3:/", storage.bucket_name, *filter(None, [storage.object_prefix.strip("/")])))
    return Staged(setting, folder, f"{root}/staged/{folder.digest}/{name}")


def _wrong_outputs(experiment: Experiment) -> Iterator[Mistake]:
    """Paths to which a run writes, or from which it resumes."""
    h = experiment.hyperparameters
    places = {"hyperparameters.model_output_dir": h.model_output_dir}
    if experiment.save_processed_dataset:
        places["output_processed_dir"] = experiment.output_processed_dir
    for setting, path in places.items():
        if _inside(path) is None:
            what = "must be a path on the claim with the runs"
            yield Mistake(setting, what, "a relative path without .., e.g. data/dpo/model", path)
    start = h.resume_from_checkpoint
    if isinstance(start, str) and _inside(start) is None and not start.startswith("/dpo/"):
        what = "must be a path on the claim with the runs"
        yield Mistake("hyperparameters.resume_from_checkpoint", what, f"a path relative to the claim, or {RUNS}/…", start)
    if h.model_cache_dir is not None and not posixpath.normpath(h.model_cache_dir).startswith((f"{CACHE}/", f"{RUNS}/")):
        what = "must be a folder that a pod can write"
        yield Mistake("hyperparameters.model_cache_dir", what, f"unset (the cache claim), or {CACHE}/…", h.model_cache_dir)


def _wrong_data(experiment: Experiment, local: Local) -> list[Mistake]:
    path = str(experiment.datasets_path)
    outside = [
        name
        for name in (experiment.train_filename, experiment.validation_filename, experiment.prompt_filename)
        if name is not None and _inside(name) is None
    ]
    if outside:
        return [
            Mistake(
                "datasets_path",
                f"{outside[0]} is outside datasets_path and is not copied to the cluster",
                "files below datasets_path",
                path,
            )
        ]
    if local.data is None:
        expected = f"a folder on this machine, s3://…, hf://…, or {DATA}/… on the claim in launch.kubernetes.volumes.data"
        return [Mistake("datasets_path", f"folder {path} not found", expected, path)]
    if file_of(experiment.train_filename) not in local.data.files:
        return [Mistake("datasets_path", f"{path}/{experiment.train_filename} not found", "the file in train_filename")]
    return []


def _wrong_staged(staged: Sequence[Staged], cache: Volume) -> Iterator[Mistake]:
    """What is copied once must still be there when the pods start."""
    if cache.is_kept:
        return
    for one in staged:
        if not one.target.startswith("s3://"):
            what = (
                f"{one.folder.path} cannot be copied to the pods: each one has an empty cache (launch.kubernetes.volumes.cache)"
            )
            yield Mistake(
                one.setting, what, "s3://…, a name on the hub, a storage_config with bucket_name, or a claim for the cache"
            )


def _wrong_pod_path(setting: str, path: str, volumes: Mapping[str, Volume]) -> Iterator[Mistake]:
    """A path in the pod must be below a mounted folder."""
    if not path.startswith("/dpo/"):
        return
    normal = posixpath.normpath(path)
    if any(normal == one.path or normal.startswith(f"{one.path}/") for one in volumes.values()):
        return
    if f"{normal}/".startswith(f"{DATA}/"):
        yield Mistake("launch.kubernetes.volumes", f"has no claim for {setting}: {path}", "data: <name of the claim>")
    else:
        expected = f"a path below {DATA}, {CACHE}, {RUNS} or {VOLUMES}/<name of a volume>"
        yield Mistake(setting, "not a path in a pod", expected, path)
