"""The folder that keeps models, token ids and remote data between runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import LauncherError


def cache_root(caller: Mapping[str, str]) -> Path:
    """The cache's folder; raises LauncherError if neither a setting nor a home directory gives one."""
    if caller.get("DPO_CACHE_ROOT"):
        return Path(caller["DPO_CACHE_ROOT"])
    if caller.get("XDG_CACHE_HOME"):
        return Path(caller["XDG_CACHE_HOME"], "dpo-launcher")
    try:
        home = Path(caller.get("HOME") or Path.home())
    except RuntimeError:  # a container may run under a uid that is not in passwd
        raise LauncherError("no home directory for the cache; set DPO_CACHE_ROOT or HOME") from None
    return home / ".cache" / "dpo-launcher"
