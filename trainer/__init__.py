"""The Python API's names, loaded when they are used: ``from trainer import YamlConfigLoader`` loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import DPOTrainer, StorageConfig, YamlConfigLoader

__all__ = ["DPOTrainer", "StorageConfig", "YamlConfigLoader"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)
