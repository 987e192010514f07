"""Where a run's inputs are in a pod, and how they get there. Pure; ``local.look`` reads the disk."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ....errors import ExperimentError, Mistake
from ....experiment.data_file import file_of
from ....experiment.hub_data import REMOTE
from ....experiment.schema import Experiment

RUNS: Final = "/dpo/runs"
CACHE: Final = "/dpo/cache"
DATA: Final = "/dpo/data"
_INPUTS: Final = "/dpo/inputs"
_CLAIMS: Final = {"runs": RUNS, "cache": CACHE, "data": DATA}
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
    ``adapter``: a local adapter to start from.
    """

    data: Folder | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    model: Folder | None = None
    adapter: Folder | None = None


@dataclass(frozen=True)
class Staged:
    """A folder that is copied once for the pods: ``target`` is ``s3://…`` or a path in the pod, ``…/staged/<digest>/<name>``."""

    setting: str  # datasets_path, model_name or adapter
    folder: Folder
    target: str


@dataclass(frozen=True)
class Placement:
    """The experiment as the pods read it, the files in a ConfigMap and their folder, and what is staged."""

    experiment: Experiment
    claims: Mapping[str, str]
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    folder: str = DATA
    staged: tuple[Staged, ...] = ()


def place(experiment: Experiment, local: Local) -> Placement:
    """Raises ExperimentError with every path that is not possible in a pod."""
    claims = claims_of(experiment)
    mistakes = [*_wrong_claims(experiment), *_wrong_outputs(experiment)]
    changed: dict[str, Any] = {}
    staged: list[Staged] = []
    contents: Mapping[str, bytes] = {}
    folder = DATA
    if travels(experiment.datasets_path, claims):
        wrong = _wrong_data(experiment, local)
        mistakes += wrong
        if not wrong and local.data is not None:
            if local.data.size <= SMALL:
                contents, name = local.contents, _inside(str(experiment.datasets_path)) or local.data.path.name
                # A mount point cannot be created on a claim that is mounted read-only.
                folder = f"{_INPUTS if 'data' in claims else DATA}/{name}"
                changed["datasets_path"] = folder if "data" in claims else name
            else:
                staged.append(_stage(experiment, "datasets_path", local.data, local.data.path.name))
    elif experiment.datasets_path is not None:
        mistakes += _wrong_pod_path("datasets_path", experiment.datasets_path, claims)
    if local.model is not None and travels(experiment.model_name, claims):
        staged.append(_stage(experiment, "model_name", local.model, experiment.model_folder))
    else:
        mistakes += _wrong_pod_path("model_name", experiment.model_name, claims)
    if experiment.adapter is not None and local.adapter is not None and travels(experiment.adapter, claims):
        staged.append(_stage(experiment, "adapter", local.adapter, local.adapter.path.name))
    elif experiment.adapter is not None:
        mistakes += _wrong_pod_path("adapter", experiment.adapter, claims)
    if mistakes:
        raise ExperimentError(mistakes)
    changed |= {one.setting: one.target for one in staged}
    return Placement(experiment.model_copy(update=changed), claims, contents, folder, tuple(staged))


def claims_of(experiment: Experiment) -> dict[str, str]:
    """Role -> claim."""
    given = experiment.launch.kubernetes.volumes
    return {role: given[role] for role in _CLAIMS if role in given} | {
        role: given.get(role, f"dpo-{role}") for role in ("runs", "cache")
    }


def travels(path: str | None, claims: Mapping[str, str]) -> bool:
    """Whether a path of the experiment is on this machine. With a claim for the data, relative paths are on the claim."""
    if path is None or path.startswith((*REMOTE, "/dpo/")):
        return False
    return "data" not in claims or _inside(path) is None


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


def _wrong_claims(experiment: Experiment) -> Iterator[Mistake]:
    for role in experiment.launch.kubernetes.volumes:
        if role not in _CLAIMS:
            yield Mistake("launch.kubernetes.volumes", f"unknown volume {role!r}", "runs, cache or data", role)


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


def _wrong_pod_path(setting: str, path: str, claims: Mapping[str, str]) -> Iterator[Mistake]:
    """A path in the pod must be below a mounted folder."""
    if not path.startswith("/dpo/"):
        return
    normal = posixpath.normpath(path)
    if normal.startswith(f"{DATA}/") or normal == DATA:
        if "data" not in claims:
            yield Mistake("launch.kubernetes.volumes", f"has no claim for {setting}: {path}", "data: <name of the claim>")
    elif not normal.startswith((f"{RUNS}/", f"{CACHE}/")):
        yield Mistake(setting, "not a path in a pod", f"a path below {DATA}, {CACHE} or {RUNS}", path)
