"""The folder that keeps models, token ids and remote data between runs; and where the hub's client keeps its models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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


def snapshots(
    model_name: str, caller: Mapping[str, str], first: Path | None = None, *, revision: str | None = None
) -> Iterator[Path]:
    """Where the files of the hub id ``model_name`` may be on this machine, in ``first`` and in the hub's caches, best first.

    ``revision``: a branch, a tag or a commit; None is main.
    """
    for hub in dict.fromkeys((*([first] if first is not None else []), *_hubs(caller))):
        cached = hub / f"models--{model_name.replace('/', '--')}"
        wanted = revision or "main"
        named = cached / "refs" / wanted
        yield cached / "snapshots" / (named.read_text(encoding="utf-8").strip() if named.is_file() else wanted)


def _hubs(caller: Mapping[str, str]) -> Iterator[Path]:
    """Where the hub's client keeps models, for runs of the launcher and for other programs on this machine."""
    home = Path(caller.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - never raises, with no home either
    if caller.get("HF_HUB_CACHE"):
        yield Path(caller["HF_HUB_CACHE"])
    if caller.get("HF_HOME"):
        yield Path(caller["HF_HOME"], "hub")
    if caller.get("DPO_CACHE_ROOT"):
        yield Path(caller["DPO_CACHE_ROOT"], "huggingface", "hub")
    cache = Path(caller.get("XDG_CACHE_HOME") or home / ".cache")
    yield cache / "dpo-launcher" / "huggingface" / "hub"
    yield cache / "huggingface" / "hub"


def usual_hub(caller: Mapping[str, str]) -> Path:
    """Where the hub's client keeps models for a program that is started with the environment ``caller``."""
    if caller.get("HF_HUB_CACHE"):
        return Path(caller["HF_HUB_CACHE"])
    if caller.get("HF_HOME"):
        return Path(caller["HF_HOME"], "hub")
    home = Path(caller.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - never raises, with no home either
    return Path(caller.get("XDG_CACHE_HOME") or home / ".cache", "huggingface", "hub")


def is_hub_id(model_name: str) -> bool:
    """Whether ``model_name``, where no such folder exists, can be a model on the hub."""
    return model_name.count("/") <= 1 and not model_name.startswith((".", "/", "~", "s3:"))
