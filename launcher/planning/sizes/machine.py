"""Machine: what a run is planned for, and the bytes of its numbers there. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...experiment.sections.hyperparameters import Hyperparameters
from ..machines.gpus import Gpu
from .activations import Numbers


@dataclass(frozen=True)
class Machine:
    """What a run is planned for: ``world`` ranks on GPUs (``gpu``: which, None where unknown) or on the CPU."""

    world: int = 1
    parallelism: str = "ddp"
    cuda: bool = True
    gpu: Gpu | None = None

    @property
    def stage(self) -> int:
        """What is sharded over the ranks: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights."""
        return int(self.parallelism[4]) if self.parallelism.startswith("zero") else 0

    @property
    def offloads(self) -> bool:
        return self.parallelism.endswith("_offload")


def numbers_of(h: Hyperparameters, machine: Machine) -> Numbers:
    """Bytes of the trainer's numbers, as ``inputs.model.choose_precision`` and DeepSpeed's 16-bit mode choose them."""
    quantised = machine.cuda and (h.load_in_4bit or h.load_in_8bit)
    wanted = h.wants_16bit
    if (wanted is False and not quantised) or (not machine.cuda and wanted is None):
        return Numbers(4, 4)
    masters = h.full_finetuning and wanted is None and machine.cuda and not machine.stage
    return Numbers(4 if masters else 2, 2)
