"""The hub: asked whether it answers before its client begins to retry by itself; without it, what the cache has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

from launcher.errors import LauncherError
from launcher.hub import of_network

from ..output import notices

T = TypeVar("T")
_TIMEOUT: Final = 10.0  # seconds for an answer
# Each try of the client's own would be a line, for a minute; `Waiting` says what it waits for.
logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)


def from_hub(model: str, part: str, model_cache_dir: str | None, load: Callable[[bool], T]) -> T:
    """What ``load`` returns; it is told whether to read the cache alone, because the hub does not answer.

    Raises UnreachableError where the hub does not answer and the cache lacks the ``part`` (model, tokenizer) of ``model``, and
    what ``load`` raises.
    """
    away = _away(model)
    if away is None:
        return load(False)
    if not isinstance(try_to_load_from_cache(model, "config.json", cache_dir=model_cache_dir), str):
        raise away
    try:
        found = load(True)
    except (OSError, ValueError) as error:
        raise away from error
    notices([f"{away}; the {part} of {model} is read from the cache"])
    return found


def _away(model: str) -> LauncherError | None:
    """Why the hub cannot be asked for ``model``; None for a folder, in offline mode, and where it answers.

    What it refuses (401, 403, 404) is said better by the request that needs it.
    """
    if Path(model).is_dir() or constants.is_offline_mode():
        return None
    try:
        get_hf_file_metadata(hf_hub_url(model, "config.json"), timeout=_TIMEOUT)
    except Exception as error:  # of httpx, in the version that the client uses
        return of_network(error)
    return None
