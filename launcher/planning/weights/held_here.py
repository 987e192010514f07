"""Trained weights on this machine, or on a GPU that somebody names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...backends.spec.sizes import size_in_bytes
from ...job.target import Target
from ..machines import main_memory
from ..machines.gpus import Gpu
from ..machines.here import gpu_here
from ..sizes.config_file import find_model_config
from ..sizes.machine import Machine
from ..sizes.model_config import ModelConfig
from .held import Held


def held_here(
    target: Target,
    caller: Mapping[str, str],
    *,
    limit: str | None = None,
    card: Gpu | None = None,
    sizes: Path | None = None,
    network: bool = False,
) -> tuple[Held, str]:
    """(the weights of ``target`` on this machine, or on the GPU ``card``; where the model's sizes were read).

    ``limit``: a container's memory, as ``launch.memory`` writes it. ``sizes``: the model's config.json. Raises what
    ``find_model_config`` raises.
    """
    storage = target.settings.storage_config
    config, where = find_model_config(target.base, Path(), caller, sizes, storage=storage, network=network)
    bounds = [size for size in (main_memory.available(), None if limit is None else size_in_bytes(limit)) if size is not None]
    main, experiment = min(bounds, default=None), target.settings
    adapters = 0 if target.adapter is None else 2 if experiment.adapter is not None else 1
    found = Held(experiment, config, Machine(cuda=False), main, main, adapters, _stored(Path(where).parent, config))
    gpu, count = (card, 1) if card is not None else gpu_here(caller)
    return (found.on(gpu) if count else found), where


def _stored(folder: Path, config: ModelConfig) -> int:
    """Bytes of the model's files; of 16-bit weights where they are not on this disk."""
    found = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return found or 2 * config.parameters
