"""The folder where models, token ids and remote data are kept from one run to the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import LauncherError


def cache_root(caller: Mapping[str, str]) -> Path:
    """Where it is; raises LauncherError where the caller neither says so nor has a home directory."""
    if caller.get("DPO_CACHE_ROOT"):
        return Path(caller["DPO_CACHE_ROOT"])
    if caller.get("XDG_CACHE_HOME"):
        return Path(caller["XDG_CACHE_HOME"], "dpo-launcher")
    try:
        home = Path(caller.get("HOME") or Path.home())
    except RuntimeError:  # a container may run as a user whom no passwd file knows
        raise LauncherError("this user has no home directory for the cache: set DPO_CACHE_ROOT or HOME") from None
    return home / ".cache" / "dpo-launcher"
