"""The files of a dataset on the hub, at one commit; each is downloaded once, into the cache of the hub's client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import CredentialError, ExperimentError, LauncherError, Mistake, StorageError, UnreachableError, Warned, labelled
from ...experiment.sections.hub_data import HubData
from ...hub import is_offline, of_network, quiet, refusal
from ...packages import adding
from ...runs.cache import cache_root
from ...runs.whole import write_whole
from ...runs.writable import DISK_FAILS
from .hub_layout import Layout, is_data, layout_of

if TYPE_CHECKING:
    from .reading import Reading

_CARD: Final = "README.md"
_CONVERTED: Final = "refs/convert/parquet"  # the branch into which the hub converts data of other formats
_TIMEOUT: Final = 10.0  # seconds for an answer


@dataclass(frozen=True)
class HubFiles:
    """``data`` names the commit; ``files``: the paths of all its files."""

    data: HubData
    files: tuple[str, ...]
    reading: Reading

    @cached_property
    def layout(self) -> Layout:
        """Raises ExperimentError if the dataset does not have the config, or has several and none is named."""
        found = layout_of(self.files, self._card(), self.data.config)
        if found.config is not None:
            return found
        if not found.configs:
            what = f"no files of data in {self.data.name}"
            raise ExperimentError(Mistake("datasets_path", what, "Parquet, JSON, CSV or Arrow files", "none"))
        names = ", ".join(found.configs)
        hint = f"datasets_path: {HubData(self.data.name, config=found.configs[0])}"
        what = f"no config {self.data.config!r}" if self.data.config else "several configs"
        raise ExperimentError(Mistake("datasets_path", f"{what} in {self.data.name}", "one of its configs", names, hint))

    def _card(self) -> Mapping[str, Any] | None:
        from huggingface_hub.repocard import metadata_load
        from yaml import YAMLError

        if _CARD not in self.files:
            return None
        try:
            return metadata_load(self.path(_CARD))
        except (ValueError, YAMLError):
            return None  # as for the hub itself, which shows a card that it cannot read

    def path(self, file: str) -> Path:
        """The local copy of ``file``, downloaded where the cache lacks it."""
        data, reading = self.data, self.reading
        with quiet(), explained(data):
            found = _api(reading.env).hf_hub_download(
                data.name,
                file,
                repo_type="dataset",
                revision=data.revision,
                cache_dir=_cache(reading),
                local_files_only=is_offline(reading.env),
            )
        return Path(str(found))


def open_data(data: HubData, reading: Reading) -> HubFiles:
    """The files of ``data`` at the commit that its revision is now.

    Without an answer of the hub, and with HF_HUB_OFFLINE, the commit that was read last. Where no format is one that is read, the
    files are those of the hub's own conversion to Parquet. Raises ExperimentError for an unknown dataset or revision,
    CredentialError for a gated one, UnreachableError, and LauncherError if the hub's client is not installed.
    """
    if find_spec("huggingface_hub") is None:
        hint = adding("huggingface_hub", "pyarrow")
        raise LauncherError(f"{data}: data of the hub need its client, huggingface_hub\n    hint:     {hint}")
    found = _listed(data, reading)
    if any(map(is_data, found.files)) or data.revision is not None:
        return found
    try:
        return _listed(replace(data, revision=_CONVERTED), reading)
    except ExperimentError:
        return found


def _listed(data: HubData, reading: Reading) -> HubFiles:
    """The files, from the hub or from what it said before: of a commit they are always the same."""
    kept, is_away = _memory(data, reading), is_offline(reading.env)
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None
    if known is None and is_away:
        raise _not_cached(data)
    if known is None or not (data.is_pinned or is_away):
        try:
            known = _asked(data, reading)
        except UnreachableError as error:
            if known is None:
                raise
            reading.say(labelled(Warned(f"{error}; commit {known['commit'][:12]} of {data.name} is read from the cache")))
    return HubFiles(data.at(known["commit"]), tuple(known["files"]), reading)


def _asked(data: HubData, reading: Reading) -> Mapping[str, Any]:
    """{"commit", "files"}, which are also kept for later."""
    from huggingface_hub.hf_api import RepoFile

    api = _api(reading.env)
    with quiet(), explained(data):
        commit = api.dataset_info(data.name, revision=data.revision, timeout=_TIMEOUT).sha
        tree = api.list_repo_tree(data.name, recursive=True, revision=commit, repo_type="dataset")
        found = {"commit": commit, "files": [one.path for one in tree if isinstance(one, RepoFile)]}
    for one in (data, data.at(commit)):
        kept = _memory(one, reading)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, json.dumps(found))
    return found


def _memory(data: HubData, reading: Reading) -> Path:
    about = f"{reading.env.get('HF_ENDPOINT', '')} {data.name} {data.revision}"
    return _root(reading) / "hub-data" / f"{hashlib.sha256(about.encode()).hexdigest()}.json"


def _root(reading: Reading) -> Path:
    return reading.cache if reading.cache is not None else cache_root(reading.env)


def _cache(reading: Reading) -> Path:
    """The folder of the hub's client that runs of the launcher have, too."""
    env = reading.env
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"])
    return Path(env["HF_HOME"] if env.get("HF_HOME") else _root(reading) / "huggingface", "hub")


def _api(env: Mapping[str, str]) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=env.get("HF_ENDPOINT") or None, token=env.get("HF_TOKEN") or None)


def _not_cached(data: HubData) -> ExperimentError:
    found = "not in the cache, and HF_HUB_OFFLINE is set"
    return ExperimentError(Mistake("datasets_path", f"{data} not found", "a dataset that was read before", found))


@contextmanager
def explained(data: HubData) -> Iterator[None]:
    """Turns the errors of the hub's client into the launcher's."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        hint = "accept its terms on its page of the hub, and set HF_TOKEN in .env to a token of the same account"
        raise CredentialError(f"dataset {data.name} is gated: permission denied\n    hint:     {hint}") from error
    except errors.RepositoryNotFoundError as error:
        hint = "check the name; a private or gated dataset needs HF_TOKEN in .env"
        raise ExperimentError(Mistake("datasets_path", f"dataset {data.name} not found on the hub", hint=hint)) from error
    except errors.RevisionNotFoundError as error:
        what = f"dataset {data.name} has no revision {data.revision}"
        raise ExperimentError(Mistake("datasets_path", what, "a branch, a tag or a commit")) from error
    except Exception as error:
        if (away := of_network(error)) is not None:
            raise away from error
        if (why := refusal(error)) is not None:
            raise CredentialError(f"dataset {data.name}: permission denied ({why}); set HF_TOKEN in .env") from error
        if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            raise _not_cached(data) from error
        if isinstance(error, OSError) and error.errno in DISK_FAILS:
            raise StorageError(f"{data}: cannot write the cache: {(error.strerror or str(error)).lower()}") from error
        raise
