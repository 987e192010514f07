"""Locates the model and the adapter that a run starts from, and downloads them if needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub import snapshot_download
from transformers.utils.peft_utils import find_adapter_config_file

from launcher.digest import sha256_of
from launcher.errors import ExperimentError, Mistake
from launcher.experiment.schema import Experiment
from launcher.job.adapter_config import ADAPTER, AdapterConfig, check_start, followed, of_model, other_base
from launcher.job.model import TOKENIZER_FILES
from launcher.job.starting import WEIGHTS, check_files, check_named, split_revision
from launcher.runs.run_dir import expanded

from ...output import EVERY, notices, stage
from ...processes.waiting import AT_ONCE, Waiting
from ..bucket import folder_from_bucket, model_path
from ..hub import from_hub
from .model import not_loaded

_TOKENIZER: Final = (*TOKENIZER_FILES, "special_tokens_map.json", "added_tokens.json", "merges.txt", "*.jinja")
FILES: Final = (ADAPTER, *WEIGHTS, *_TOKENIZER)  # names, or patterns, of what is read of an adapter's folder


@dataclass(frozen=True)
class Start:
    """The adapter that a run starts from. ``revision``: commit of a hub id. ``sha256``: file name -> hash."""

    name: str
    mode: str  # continue or merge
    folder: Path
    config: AdapterConfig
    base: str
    revision: str | None
    sha256: Mapping[str, str]

    @property
    def is_continued(self) -> bool:
        return self.mode == "continue"

    @property
    def identity(self) -> str:
        """A hash (64 hex digits) of its files and its mode."""
        return hashlib.sha256(json.dumps({"mode": self.mode, **self.sha256}, sort_keys=True).encode()).hexdigest()

    def json(self) -> dict[str, Any]:
        """For the run's record."""
        fixed = {"name": self.name, "mode": self.mode, "base": self.base, "revision": self.revision}
        return {**fixed, "sha256": dict(self.sha256)}


@dataclass(frozen=True)
class Located:
    """``experiment``: with base and adapter in their own keys, and the shape of a continued adapter. ``path``: of the base
    model, a folder or a hub id.
    """

    experiment: Experiment
    path: str
    start: Start | None = None

    @property
    def tokenizer(self) -> str:
        """Where the tokenizer is: an adapter may bring its own, with the chat template that it was trained with."""
        if self.start is not None and any((self.start.folder / name).is_file() for name in TOKENIZER_FILES):
            return str(self.start.folder)
        return self.path


def locate(
    experiment: Experiment,
    data_root: Path,
    cache: Path,
    *,
    first: bool,
    waiting: Waiting = AT_ONCE,
    commit: str | None = None,
    own: Path | None = None,
) -> Located:
    """Finds the model and the adapter of ``experiment``, and downloads what is not on this disk.

    ``commit``: pinned commit of a hub id from an earlier start of this run. ``own``: folder of the run's copy of the adapter,
    used instead of it. An adapter in ``model_name`` is split into base and adapter. Raises ExperimentError if there is no such
    adapter or it does not fit the experiment, and what ``model_path`` and the hub's client raise.
    """
    places: dict[str, Any] = {"first": first, "waiting": waiting}
    path = model_path(experiment, data_root, cache, **places)
    config = waiting(lambda: _adapter_at(experiment, path))
    if config is not None:
        experiment, sentence = of_model(experiment, config)
        path = model_path(experiment, data_root, cache, **places)
        if first:
            notices([sentence])
    name = experiment.adapter
    if name is None:
        return Located(experiment, path)
    folder, revision = (own, commit) if own is not None else _folder(experiment, name, data_root, cache, commit, **places)
    check_files(name, folder)
    config = AdapterConfig.read(name, folder / ADAPTER)
    check_start(experiment, config)
    experiment = followed(experiment, config)
    if first and revision is not None:
        notices(other_base(experiment, config))
    made_of = hashes(folder)
    return Located(
        experiment, path, Start(name, experiment.adapter_mode, folder, config, experiment.model_name, revision, made_of)
    )


def hashes(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 of an adapter's files. Raises ExperimentError if one cannot be read."""
    return {file: _sha256(folder / file) for file in (ADAPTER, *WEIGHTS) if (folder / file).is_file()}


def _adapter_at(experiment: Experiment, path: str) -> AdapterConfig | None:
    """The adapter's configuration at the model's ``path``; None for a model, also for one with an adapter beside it."""
    cache = experiment.hyperparameters.model_cache_dir
    if Path(path).is_dir():
        found: str | None = str(Path(path) / ADAPTER) if (Path(path) / ADAPTER).is_file() else None
    else:
        try:
            found = from_hub(
                path,
                "model",
                cache,
                lambda cached: find_adapter_config_file(path, cache_dir=cache, local_files_only=cached),
            )
        except (OSError, ValueError) as error:
            raise not_loaded(experiment, "configuration", error) from error
    if found is None or Path(found).with_name("config.json").is_file():
        return None
    return AdapterConfig.read(experiment.model_name, Path(found))


def _folder(
    experiment: Experiment, name: str, data_root: Path, cache: Path, commit: str | None, *, first: bool, waiting: Waiting
) -> tuple[Path, str | None]:
    """(the adapter's folder, the commit of a hub id)."""
    local = data_root / expanded(name)
    if local.is_dir():
        return local, None
    if name.startswith("s3://"):
        return folder_from_bucket(experiment, "adapter", name, cache, first=first, waiting=waiting), None
    identity, pinned = split_revision(name)
    check_named(name, "restore it, or the copy in the run's folder: start")
    revision = commit or pinned
    hub = experiment.hyperparameters.model_cache_dir

    def load(cached: bool) -> str:
        return snapshot_download(identity, revision=revision, allow_patterns=list(FILES), cache_dir=hub, local_files_only=cached)

    try:
        with stage(f"downloading {name}", after=EVERY):
            found = Path(waiting(lambda: from_hub(identity, "adapter", hub, load, file=ADAPTER, revision=revision)))
    except (OSError, ValueError) as error:
        raise not_loaded(experiment, "adapter", error, setting="adapter", name=name) from error
    return found, found.name


def _sha256(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        what = f"cannot read {file}"
        raise ExperimentError(Mistake("adapter", what, "a readable file", (error.strerror or str(error)).lower())) from error
