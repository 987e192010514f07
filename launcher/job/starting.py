"""Starting: the adapter that a run starts from, as it lies on this disk; a folder, a hub id in the cache, or a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ..errors import ExperimentError, Mistake, UsageError
from ..experiment.loaded import Loaded
from ..experiment.schema import Experiment
from ..runs.cache import is_hub_id, snapshots
from ..runs.finding import choose, newest_first, output_dirs, remembered
from ..runs.run_dir import RunDir, expanded
from .adapter_config import ADAPTER, AdapterConfig, check_start, followed, of_model, other_base

WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")


def split_revision(name: str) -> tuple[str, str | None]:
    """(the hub id, the revision that is pinned) of ``owner/name@revision``."""
    owner, at, revision = name.partition("@")
    return (owner, revision) if at else (name, None)


def adapter_folder(name: str, root: Path, caller: Mapping[str, str], cache: str | None = None) -> Path | None:
    """The folder of the adapter ``name`` where this disk has it: a folder, or a hub id in the hub's cache."""
    folder = root / expanded(name)
    if folder.is_dir():
        return folder
    identity, revision = split_revision(name)
    if name.startswith("s3://") or not is_hub_id(identity):
        return None
    there = snapshots(identity, caller, root / expanded(cache) if cache else None, revision=revision)
    return next((one for one in there if (one / ADAPTER).is_file()), None)


@dataclass(frozen=True)
class Paired:
    """An experiment whose model is whole and whose adapter is named apart; ``said``: what was found out, for a person."""

    experiment: Experiment
    said: tuple[str, ...] = ()


def paired(experiment: Experiment, root: Path, caller: Mapping[str, str]) -> Paired:
    """``experiment`` with the base of an adapter that is given as ``model_name``, with the folder of a run that ``adapter``
    names, and with the shape of an adapter that is continued.

    Looks only at the disk; what is elsewhere is left to the run. ``caller`` is the environment, which names the hub's cache.
    Raises ExperimentError for a pair that cannot be trained, and for an adapter whose base is unknown.
    """
    found, said = _from_model(experiment, root, caller)
    if found.adapter is None:
        return Paired(found)
    found = _of_run(found, root)
    name = str(found.adapter)
    folder = adapter_folder(name, root, caller, found.hyperparameters.model_cache_dir)
    if folder is None or not (folder / ADAPTER).is_file():
        return Paired(found, tuple(said))
    config = AdapterConfig.read(name, folder / ADAPTER)
    check_start(found, config)
    return Paired(followed(found, config), (*said, *other_base(found, config)))


def paired_loaded(loaded: Loaded, root: Path, caller: Mapping[str, str]) -> Loaded:
    """``loaded`` with the experiment of :func:`paired`, and with what it says among the notices."""
    with loaded.placed():
        found = paired(loaded.experiment, root, caller)
    return replace(loaded, experiment=found.experiment, notices=(*loaded.notices, *found.said))


def _from_model(experiment: Experiment, root: Path, caller: Mapping[str, str]) -> tuple[Experiment, list[str]]:
    name = experiment.model_name
    folder = adapter_folder(name, root, caller, experiment.hyperparameters.model_cache_dir)
    if folder is None or not (folder / ADAPTER).is_file() or (folder / "config.json").is_file():
        return experiment, []
    found, said = of_model(experiment, AdapterConfig.read(name, folder / ADAPTER))
    of_its_run = _base_of_run(folder)
    if of_its_run is not None and of_its_run != found.model_name:  # its configuration may name a path in a container
        found = found.model_copy(update={"model_name": of_its_run})
        said = f"model {name} is an adapter: base {of_its_run}, adapter {name}, {found.adapter_mode}"
    return found, [said]


def _base_of_run(folder: Path) -> str | None:
    """The model of the run whose adapter lies in ``folder``."""
    run = RunDir(folder.resolve().parent)
    if run.adapter != folder.resolve():
        return None
    try:
        return str(json.loads(run.experiment.read_text(encoding="utf-8"))["model_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _of_run(experiment: Experiment, root: Path) -> Experiment:
    """``experiment`` with the folder of the adapter of the run that ``adapter`` names; a folder of that name wins."""
    name = str(experiment.adapter)
    if "/" in name or (root / expanded(name)).is_dir():
        return experiment
    if "data" in experiment.launch.kubernetes.volumes:
        return experiment  # a path on the claim, perhaps
    try:
        run = choose(name, newest_first(output_dirs(root), remembered(root)))
    except UsageError as error:
        expected = "a folder, a hub id as owner/name, s3://…, or a run of this machine"
        raise ExperimentError(Mistake("adapter", f"{name} is neither a folder nor a run", expected, str(error))) from None
    folder = run.adapter
    path = str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder.resolve())
    if not folder.is_dir():
        raise ExperimentError(
            Mistake("adapter", f"run {run.name} has no adapter yet", "a run that is done", hint=f"launcher status {run.name}")
        )
    if not (folder / ADAPTER).is_file():
        hint = f"start from its weights: model_name: {path}"
        raise ExperimentError(Mistake("adapter", f"run {run.name} trained all weights", "a run with an adapter", hint=hint))
    return experiment.model_copy(update={"adapter": path})


def check_starting(experiment: Experiment, root: Path, caller: Mapping[str, str]) -> None:
    """Raises ExperimentError where the folder of ``adapter`` is missing or incomplete; hub ids and s3://… are left to the run."""
    name = experiment.adapter
    if name is None or name.startswith("s3://"):
        return
    folder = adapter_folder(name, root, caller, experiment.hyperparameters.model_cache_dir)
    if folder is not None:
        check_files(name, folder)
    else:
        check_named(name, _elsewhere(experiment, root))


def check_named(name: str, hint: str | None) -> None:
    """Raises ExperimentError where an adapter that is no folder is no hub id either; ``hint``: where a copy may be."""
    if not is_hub_id(split_revision(name)[0]):
        expected = "a hub id, s3://…, a run or an existing folder"
        raise ExperimentError(Mistake("adapter", f"folder {name} not found", expected, hint=hint))


def _elsewhere(experiment: Experiment, root: Path) -> str | None:
    """Where a missing adapter may be: in the run that ``resume_from_checkpoint`` names, or in ``checkpoint_to``."""
    wish = experiment.hyperparameters.resume_from_checkpoint
    if isinstance(wish, str):
        named = root / expanded(wish)
        copies = (RunDir(folder).start for folder in (named, named.parent))
        found = next((copy for copy in copies if (copy / ADAPTER).is_file()), None)
        if found is not None:
            return f"the run of this checkpoint has a copy of its adapter: set adapter: {found}"
    if experiment.checkpoint_to is not None:
        return "a run with copies in checkpoint_to brings its own: launcher resume RUN"
    return None


def check_files(name: str, folder: Path) -> None:
    """Raises ExperimentError where ``folder`` lacks the files of an adapter."""
    there = sorted(path.name for path in folder.iterdir())
    found = ", ".join(there[:5]) + (" …" if len(there) > 5 else "") if there else "an empty folder"
    if ADAPTER not in there:
        hint = f"start from whole weights with model_name: {name}" if "config.json" in there else None
        raise ExperimentError(Mistake("adapter", f"no adapter in {name}", f"a folder with {ADAPTER}", found, hint))
    if not any(file in there for file in WEIGHTS):
        raise ExperimentError(Mistake("adapter", f"no weights in {name}", f"a folder with {WEIGHTS[0]}", found))
