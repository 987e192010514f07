"""Device: what a rank computes on, and the machine and packages as run.json records them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import Any, Final

import torch

PACKAGES: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "tensorboard")


@dataclass(frozen=True)
class Device:
    """What this rank computes on, and how many ranks there are."""

    cuda: bool
    bf16: bool
    rank: int
    world: int

    @classmethod
    def here(cls, gpu_memory_utilization: float) -> Device:
        """Detects and takes this rank's GPU, with that share of its memory as the allocator's limit."""
        cuda = torch.cuda.is_available()
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")  # or DeepSpeed looks itself, and warns of a CPU
        if cuda:  # before anything is put on "the current device": quantised weights are loaded there
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_per_process_memory_fraction(gpu_memory_utilization)
        bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        return cls(cuda, bf16, int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def name(self) -> str:
        """The device's name for people."""
        if not self.cuda:
            return f"the CPU ({torch.get_num_threads()} threads)"
        index = torch.cuda.current_device()
        return f"cuda:{index} ({torch.cuda.get_device_name(index)})"

    def hardware(self) -> dict[str, Any]:
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if self.cuda else []
        return {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
            "ranks": self.world,
        }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}
