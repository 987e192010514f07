"""The public identity of the base model: hub id, revision, licence; never a path of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from huggingface_hub import ModelCard, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

from launcher.experiment.schema import Experiment
from launcher.runs.cache import is_hub_id
from launcher.runs.whole import write_whole

from ..inputs.hub import commit_of

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_IN_CACHE: Final = re.compile(r"/models--([^/]+)/snapshots/([0-9a-f]{40})(?:/|$)")
_CONTAINER: Final = "/dpo/"  # paths below it mean nothing on the machine that reads the adapter
_TIMEOUT: Final = 5.0  # seconds for an answer of the hub
_LICENCE: Final = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class Base:
    """``name``: a hub id, or the last part of a folder's path. ``hub``: the hub id, None if unknown. ``revision``: its commit.
    ``identity``: see ``reference.identity``. ``licence``: entries of a model card, empty if unknown.
    """

    name: str
    hub: str | None = None
    revision: str | None = None
    identity: str | None = None
    licence: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, path: str, made_of: Mapping[str, Any]) -> Base:
        """``path``: where the weights were loaded from. ``made_of``: ``model`` in the run's record. Asks the hub for the
        licence of a model that came from there, once, with a short timeout.
        """
        cache = experiment.hyperparameters.model_cache_dir
        hub, revision = _on_hub(experiment, Path(path), made_of.get("revision"))
        text = _card_beside(Path(path)) or (None if hub is None else _card_of(hub, revision, cache))
        return cls(hub or experiment.model_folder, hub, revision, made_of.get("identity"), _licence(text))


def name_base(folder: Path, path: str, experiment: Experiment, base: Base) -> None:
    """Replaces the base model's path in ``folder``'s files if other machines have no such path: in this machine's cache (from a
    bucket or at a pinned commit), or inside a container.
    """
    name = experiment.model_name
    is_recorded = is_hub_id(name) and commit_of(path) is not None
    if path.startswith(_CONTAINER) and not name.startswith("s3://"):
        name = base.name if name.startswith(_CONTAINER) else name
    elif not name.startswith("s3://") and not is_recorded:
        return
    for file in (folder / "adapter_config.json", folder / "config.json"):
        if file.is_file() and path in (text := file.read_text(encoding="utf-8")):
            write_whole(file, text.replace(path, name))


def _on_hub(experiment: Experiment, folder: Path, revision: str | None) -> tuple[str | None, str | None]:
    """(hub id, commit) of a folder, from the hub's cache or from its configuration."""
    if not folder.is_dir():
        return experiment.model_name, revision
    if found := _IN_CACHE.search(folder.as_posix()):
        return found[1].replace("--", "/", 1), found[2]
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None, None
    is_id = isinstance(name, str) and _HUB_ID.fullmatch(name) is not None and not Path(name).exists()
    return (name if is_id else None), None


def _card_beside(folder: Path) -> Path | None:
    return folder / "README.md" if (folder / "README.md").is_file() else None


def _card_of(name: str, revision: str | None, cache: str | None) -> Path | None:
    """The model's card from the hub's cache, else from the hub; None if neither has one."""
    found = try_to_load_from_cache(name, "README.md", cache_dir=cache, revision=revision)
    if isinstance(found, str):
        return Path(found)
    if constants.is_offline_mode():
        return None
    try:
        # One request without retries: the client's own retries would wait for an unreachable hub.
        get_hf_file_metadata(hf_hub_url(name, "README.md", revision=revision), timeout=_TIMEOUT)
        return Path(hf_hub_download(name, "README.md", revision=revision, cache_dir=cache, etag_timeout=_TIMEOUT))
    except Exception:  # any client error: a card without a licence is still useful
        return None


def _licence(card: Path | None) -> dict[str, Any]:
    if card is None:
        return {}
    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # a file that somebody else wrote
        return {}
    return {name: found[name] for name in _LICENCE if isinstance(found.get(name), str)} if found.get("license") else {}
