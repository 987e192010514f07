"""The training side: where torch is loaded. The Python API's names load it only when they train.

Others take ``DPOTrainer``, ``YamlConfigLoader``, ``Hyperparameters``, ``StorageConfig`` and ``Trained``; the launcher starts
``trainer.processes.entrypoint``, which starts ``trainer`` on every rank.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import DPOTrainer, Hyperparameters, StorageConfig, Trained, YamlConfigLoader

# TRL sends a request to Hugging Face for each trainer; 0 asks for it. Hugging Face's client reads this once, when it is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

__all__ = ["DPOTrainer", "Hyperparameters", "StorageConfig", "Trained", "YamlConfigLoader"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)
