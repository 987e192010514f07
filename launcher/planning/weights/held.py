"""Held: trained weights on a machine, by the sizes of their model; nothing is loaded. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ...experiment.schema import Experiment
from ...experiment.sections.hyperparameters import Hyperparameters
from ..estimate import PYTHON
from ..machines.gpus import Gpu
from ..rows import CONTEXT
from ..sizes.adapter import Adapter
from ..sizes.machine import Machine, numbers_of
from ..sizes.model_config import ModelConfig
from ..sizes.state import Part, state


@dataclass(frozen=True)
class Held:
    """``there``: bytes that may be used, None: unknown; ``main``: of main memory. ``adapters``: that are loaded beside the base,
    0 for whole weights. ``stored``: bytes of the base's files.
    """

    experiment: Experiment
    config: ModelConfig
    machine: Machine
    there: int | None
    main: int | None
    adapters: int
    stored: int

    @property
    def h(self) -> Hyperparameters:
        return self.experiment.hyperparameters

    @property
    def device(self) -> str:
        gpu = self.machine.gpu
        return "the CPU" if not self.machine.cuda else "the GPU" if gpu is None else gpu.name

    @cached_property
    def weights(self) -> int:
        """Bytes of the model, in the precision of the training's step, and of its adapters."""
        return self._sizes["weights"] + self.adapters * self._sizes["adapter"]

    @property
    def masters(self) -> int:
        """The same with whole weights as a full fine-tuning keeps them, and the reference beside them."""
        if self.adapters:
            return self.weights
        return 2 * self.config.parameters * numbers_of(self.h, self.machine).stream

    @property
    def matrices(self) -> int:
        """Weights of an adapter's matrices."""
        return Adapter(self.h, self.config).matrices if self.adapters else 0

    @property
    def runtime(self) -> Part:
        return Part("runtime", CONTEXT if self.machine.cuda else PYTHON, "")

    @property
    def size(self) -> int:
        """Bytes of a number of the keys and values that are kept."""
        return numbers_of(self._step, self.machine).compute if self.machine.cuda else 4

    @property
    def cache(self) -> int:
        """Bytes of the keys and values of a token in all layers."""
        return 2 * self.config.layers * self.config.kv_heads * self.config.head_dim * self.size

    @property
    def _step(self) -> Hyperparameters:
        return self.h.model_copy(update={"full_finetuning": False})  # without masters: nothing is trained

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {part.name: part.size for part in state(self._step, self.config, self.machine)[0]}

    def on(self, gpu: Gpu | None) -> Held:
        """The same on a GPU; None: one that nobody knows."""
        there = None if gpu is None else int(gpu.memory * self.h.gpu_memory_utilization)
        return replace(self, machine=Machine(1, "ddp", gpu=gpu), there=there)
