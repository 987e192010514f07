"""Room: the memory that weights and answers need, and what there is, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..backends.sizes import size_in_bytes
from ..errors import ExperimentError, MemoryShortage
from ..job.target import Target
from ..planning.config_file import find_model_config
from ..planning.estimate import PYTHON
from ..planning.here import gpu_here
from ..planning.machine import Machine
from ..planning.model_config import ModelConfig
from ..planning.rows import CONTEXT
from ..planning.state import state

GIB: Final = 2**30


@dataclass(frozen=True)
class Room:
    """Bytes; ``there``: of a GPU the part that may be used, else the main memory that is free; None: unknown."""

    weights: int
    cache: int  # of the keys and values of ``tokens`` tokens
    tokens: int
    runtime: int
    there: int | None
    device: str

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.runtime

    def __str__(self) -> str:
        parts = f"weights {_size(self.weights)}, {self.tokens:,} tokens {_size(self.cache)}, runtime {_size(self.runtime)}"
        there = "unknown" if self.there is None else _size(self.there)
        return f"{_size(self.total)} ({parts}) of {there} on {self.device}"

    def check(self) -> None:
        """Raises MemoryShortage where it cannot fit."""
        if self.there is not None and self.total > self.there:
            raise MemoryShortage(f"not enough memory: {self}", can_split=False)


def room_for(target: Target, tokens: int, caller: Mapping[str, str], limit: str | None = None) -> Room | None:
    """What ``target`` and ``tokens`` tokens at once need on this machine; None where the model's sizes are not on its disk.

    ``limit``: a container's memory, as ``launch.memory`` writes it.
    """
    try:
        config, _ = find_model_config(target.base, Path(), caller, network=False)
    except ExperimentError:
        return None
    gpu, count = gpu_here(caller)
    h, machine = target.settings.hyperparameters, Machine(1, "ddp", cuda=count > 0, gpu=gpu)
    kept, _ = state(h.model_copy(update={"full_finetuning": False}), config, machine)  # no masters: nothing is trained
    sizes = {part.name: part.size for part in kept}
    weights = sizes["weights"] + (sizes["adapter"] if target.adapter is not None else 0)
    cache = _of_a_token(config, 2 if machine.cuda else 4) * tokens
    if machine.cuda:
        there = None if gpu is None else int(gpu.memory * h.gpu_memory_utilization)
        return Room(weights, cache, tokens, CONTEXT, there, "the GPU" if gpu is None else gpu.name)
    bounds = [size for size in (_free(), None if limit is None else size_in_bytes(limit)) if size is not None]
    return Room(weights, cache, tokens, PYTHON, min(bounds, default=None), "the CPU")


def _of_a_token(config: ModelConfig, size: int) -> int:
    """Bytes of its keys and values in all layers."""
    return 2 * config.layers * config.kv_heads * config.head_dim * size


def _free() -> int | None:
    """Main memory that programs can have without swapping."""
    file = Path("/proc/meminfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return int(found) * 1024 if found else None


def _size(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.1f} MiB"
