"""Checks whether the hub answers before its client retries, falls back to the cache, and downloads the files of one commit."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from launcher.errors import CredentialError, ExperimentError, LauncherError, Mistake
from launcher.hub import of_network, refusal

from ..output import notices

T = TypeVar("T")
# In the order in which transformers looks for weights; an index names the files of its shards.
WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SMALL: Final = (".json", ".txt", ".model", ".jinja", ".py", ".tiktoken")  # configuration, tokenizer, template, code
_TIMEOUT: Final = 10.0  # seconds to wait for an answer
# The client would print each of its retries for a minute; `Waiting` says what it waits for.
logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)


def from_hub(
    model: str,
    part: str,
    model_cache_dir: str | None,
    load: Callable[[bool], T],
    *,
    file: str = "config.json",
    revision: str | None = None,
) -> T:
    """The result of ``load``, whose argument says whether to use only the cache because the hub does not answer.

    ``file``: a file that the ``part`` always has. Raises UnreachableError if the hub does not answer and the cache lacks the
    ``part`` (model, tokenizer) of ``model``, and what ``load`` raises.
    """
    away = _away(model, file)
    if away is None:
        return load(False)
    if not isinstance(try_to_load_from_cache(model, file, cache_dir=model_cache_dir, revision=revision), str):
        raise away
    try:
        found = load(True)
    except (OSError, ValueError) as error:
        raise away from error
    notices([f"{away}; the {part} of {model} is read from the cache"])
    return found


def commit_of(path: str) -> str | None:
    """The commit of a folder in the hub's cache; None for other folders and for a hub id."""
    folder = Path(path)
    return folder.name if folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name) else None


def at_commit(model: str, commit: str, model_cache_dir: str | None) -> Path:
    """The folder in the hub's cache with the files of the hub id ``model`` at ``commit``. Downloads what is missing.

    Raises UnreachableError if the cache lacks a file and the hub does not answer, ExperimentError if the hub does not have that
    commit, and CredentialError if it refuses.
    """
    away = _away(model, "config.json")
    if away is not None or constants.is_offline_mode():
        folder = _cached_at(model, commit, model_cache_dir)
        if folder is not None:
            return folder
        raise away or _no_commit(model, commit, "not in the hub's cache, and HF_HUB_OFFLINE is set")
    try:
        names = [file.rfilename for file in HfApi().model_info(model, revision=commit, timeout=_TIMEOUT).siblings or ()]
        config = hf_hub_download(model, "config.json", revision=commit, cache_dir=model_cache_dir)
        for name in _needed(names, lambda index: hf_hub_download(model, index, revision=commit, cache_dir=model_cache_dir)):
            hf_hub_download(model, name, revision=commit, cache_dir=model_cache_dir)
    except (RevisionNotFoundError, RepositoryNotFoundError, EntryNotFoundError) as error:
        folder = _cached_at(model, commit, model_cache_dir)
        if folder is not None:
            return folder
        raise _no_commit(model, commit, "neither on the hub nor in its cache") from error
    except OSError as error:
        if (why := of_network(error)) is not None:
            raise why from error
        if (refused := refusal(error)) is not None:
            raise CredentialError(f"model {model}: permission denied ({refused}); set HF_TOKEN in .env") from error
        raise
    return Path(config).parent


def _needed(names: Sequence[str], read: Callable[[str], str]) -> Iterator[str]:
    """Files of a repository that transformers may load. ``read`` downloads an index and returns its path."""
    yield from (name for name in names if name.endswith(_SMALL) and ("/" not in name or name.endswith((".jinja", ".py"))))
    first = next((name for name in WEIGHTS if name in names), None)
    if first is None:
        yield from (name for name in names if "/" not in name and name.endswith((".safetensors", ".bin")))
    elif first.endswith(".json"):
        yield from sorted(set(json.loads(Path(read(first)).read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        yield first


def _cached_at(model: str, commit: str, model_cache_dir: str | None) -> Path | None:
    """The same folder from the cache only; None if the configuration or weights are missing."""
    found = try_to_load_from_cache(model, "config.json", cache_dir=model_cache_dir, revision=commit)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    names = [path.name for path in folder.iterdir()]
    needed = list(_needed(names, lambda index: str(folder / index)))
    has_weights = any(name.endswith((".safetensors", ".bin")) for name in needed)
    return folder if has_weights and all((folder / name).is_file() for name in needed) else None


def _no_commit(model: str, commit: str, found: str) -> ExperimentError:
    hint = "restore the cache that the run had (DPO_CACHE_ROOT, HF_HOME, or model_cache_dir)"
    return ExperimentError(Mistake("model_name", f"revision {commit[:12]} of {model} not found", commit, found, hint))


def _away(model: str, file: str) -> LauncherError | None:
    """Why the hub cannot be asked for ``model``; None for a folder, in offline mode, and if it answers.

    Refusals (401, 403, 404) are reported by the request that needs the file.
    """
    if Path(model).is_dir() or constants.is_offline_mode():
        return None
    try:
        get_hf_file_metadata(hf_hub_url(model, file), timeout=_TIMEOUT)
    except Exception as error:  # from httpx, in the client's version
        return of_network(error)
    return None
