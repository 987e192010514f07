"""The adapter that a run starts from, as far as it is on this disk: a folder, a hub id in the cache, or a run."""

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
    """``owner/name@revision`` -> (hub id, pinned revision or None)."""
    owner, at, revision = name.partition("@")
    return (owner, revision) if at else (name, None)


def adapter_folder(name: str, root: Path, caller: Mapping[str, str], cache: str | None = None) -> Path | None:
    """The folder of the adapter ``name`` on this disk, local or in the hub's cache; None if it is elsewhere."""
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
    """An experiment with a whole model in ``model_name`` and a separate ``adapter``. ``said``: notices about what was changed."""

    experiment: Experiment
    said: tuple[str, ...] = ()


def paired(experiment: Experiment, root: Path, caller: Mapping[str, str]) -> Paired:
    """``experiment`` with base and adapter in their own keys: an adapter in ``model_name`` is replaced by its base model, a run
    in ``adapter`` by its folder, and unset LoRA settings take the values of a continued adapter.

    Reads only this disk; the run checks what is elsewhere. ``caller``: the environment, which names the hub's cache. Raises
    ExperimentError for a combination that cannot be trained, and for an adapter with an unknown base model.
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
    """``loaded`` with the experiment of :func:`paired`; its notices are added."""
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
    if of_its_run is not None and of_its_run != found.model_name:  # it may name a path inside a container
        found = found.model_copy(update={"model_name": of_its_run})
        said = f"model {name} is an adapter: base {of_its_run}, adapter {name}, {found.adapter_mode}"
    return found, [said]


def _base_of_run(folder: Path) -> str | None:
    """The base model of the run that trained the adapter in ``folder``."""
    run = RunDir(folder.resolve().parent)
    if run.adapter != folder.resolve():
        return None
    try:
        return str(json.loads(run.experiment.read_text(encoding="utf-8"))["model_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _of_run(experiment: Experiment, root: Path) -> Experiment:
    """``experiment`` with the adapter's folder in place of a run's name; a folder with that name wins."""
    name = str(experiment.adapter)
    if "/" in name or (root / expanded(name)).is_dir():
        return experiment
    if "data" in experiment.launch.kubernetes.volumes:
        return experiment  # it may be a path on the claim
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
    """Raises ExperimentError if the folder of ``adapter`` is missing or incomplete. The run checks hub ids and s3://…."""
    name = experiment.adapter
    if name is None or name.startswith("s3://"):
        return
    folder = adapter_folder(name, root, caller, experiment.hyperparameters.model_cache_dir)
    if folder is not None:
        check_files(name, folder)
    else:
        check_named(name, _elsewhere(experiment, root))


def check_named(name: str, hint: str | None) -> None:
    """Raises ExperimentError if an adapter is neither a folder nor a valid hub id. ``hint``: where a copy may be."""
    if not is_hub_id(split_revision(name)[0]):
        expected = "a hub id, s3://…, a run or an existing folder"
        raise ExperimentError(Mistake("adapter", f"folder {name} not found", expected, hint=hint))


def _elsewhere(experiment: Experiment, root: Path) -> str | None:
    """Where a missing adapter may be: in the run of ``resume_from_checkpoint``, or in ``checkpoint_to``."""
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
    """Raises ExperimentError if files of the adapter are missing in ``folder``."""
    there = sorted(path.name for path in folder.iterdir())
    found = ", ".join(there[:5]) + (" …" if len(there) > 5 else "") if there else "an empty folder"
    if ADAPTER not in there:
        hint = f"start from whole weights with model_name: {name}" if "config.json" in there else None
        raise ExperimentError(Mistake("adapter", f"no adapter in {name}", f"a folder with {ADAPTER}", found, hint))
    if not any(file in there for file in WEIGHTS):
        raise ExperimentError(Mistake("adapter", f"no weights in {name}", f"a folder with {WEIGHTS[0]}", found))
