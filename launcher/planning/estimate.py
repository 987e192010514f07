"""Estimates memory, work and time of a run from model sizes and data, without torch and without weights. Pure.

Memory is the peak of one rank within a step: its persistent ``state`` plus its longest row (``rows``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..experiment.schema import Experiment
from .rows import CONTEXT, Passes, ceiling, choose_rows, idle_batch, is_by_memory, is_packed
from .sizes import flops
from .sizes.machine import Machine
from .sizes.model_config import ModelConfig
from .sizes.state import STATES, Part, state
from .tokens.work import Work

UTILISATION: Final = 0.4  # share of a GPU's dense 16-bit peak that a well-filled training step reaches
GAPS: Final = 0.05  # fragmentation, as a share of the memory that a step allocates and frees
PYTHON: Final = 900 << 20  # bytes: the interpreter with torch and transformers, on the CPU


@dataclass(frozen=True)
class Estimate:
    """Memory of one rank, computation of all ranks. ``seconds``: None if the device's speed is unknown."""

    parts: tuple[Part, ...]
    host: int  # bytes that each rank offloads to main memory
    recompute: bool  # gradient checkpointing is on
    row: int  # tokens of the largest forward pass
    steps: int
    evaluations: int  # of the validation pairs
    tokens: int  # over all epochs; a prompt counts each time it is computed
    exact: bool
    flops: float
    seconds: float | None
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def tensors(self) -> int:
        """What torch counts as allocated: the total without the runtime."""
        return sum(part.size for part in self.parts if part.name != "runtime")


def estimate(
    experiment: Experiment, config: ModelConfig, work: Work, machine: Machine, *, recompute: bool | None = None
) -> Estimate:
    """``recompute``: gradient checkpointing on or off; None: as in the experiment, see ``rows.choose_rows``."""
    h = experiment.hyperparameters
    passes = Passes(experiment, config, work, machine, is_packed(h))
    memory = machine.gpu.memory if machine.cuda and machine.gpu is not None else None
    rows = choose_rows(passes, None if memory is None else ceiling(memory, h.gpu_memory_utilization), recompute)
    stays, host = state(h, config, machine)
    adds = passes.parts(rows.tokens, rows.recompute)
    runtime, why = _ON_CPU
    if machine.cuda:
        runtime, why = CONTEXT + int(GAPS * rows.adds), "CUDA context and fragmentation"
    steps = experiment.steps(work.pairs, machine.world)
    epochs = steps / max(1, -(-work.pairs // experiment.global_batch))  # an epoch's last step may be smaller
    evaluations = experiment.evaluations(work.pairs, machine.world) if work.held_out else 0
    count = flops.training(h, config, work, passes.packed, rows.recompute, epochs)
    count += flops.evaluating(config, work, passes.packed, evaluations)
    speed = machine.gpu.flops if machine.gpu is not None and machine.cuda else None
    return Estimate(
        parts=(*stays, *adds, Part("runtime", runtime, why)),
        host=host,
        recompute=rows.recompute,
        row=rows.tokens,
        steps=steps,
        evaluations=evaluations,
        tokens=round(epochs * (work.packed if passes.packed else work.tokens)),
        exact=work.exact,
        flops=count,
        seconds=count / (speed * UTILISATION * machine.world) if speed else None,
        notes=tuple(_notes(experiment, config, machine, packed=passes.packed)),
    )


def step_seconds(experiment: Experiment, config: ModelConfig, work: Work, machine: Machine, *, recompute: bool) -> float | None:
    """Seconds of a training step of mean length on well-filled GPUs; None if their speed is unknown."""
    h, speed = experiment.hyperparameters, machine.gpu.flops if machine.gpu is not None and machine.cuda else None
    if not speed:
        return None
    packed = is_packed(h)
    epoch, reference = (flops.training(h, config, work, packed, recompute, passes) for passes in (1, 0))
    return (epoch - reference) * experiment.global_batch / work.pairs / (speed * UTILISATION * machine.world)


_ON_CPU: Final = (PYTHON, "Python with torch and transformers")


def fits(found: Estimate, memory: int, gpu_memory_utilization: float) -> bool:
    """Whether a device with ``memory`` bytes can hold it below the experiment's memory limit."""
    return found.total <= memory * gpu_memory_utilization


def _notes(experiment: Experiment, config: ModelConfig, machine: Machine, *, packed: bool) -> list[str]:
    h, notes = experiment.hyperparameters, []
    if not config.is_known:
        notes.append(f"{config.family}: unknown architecture, counted as a Llama of these sizes")
    if h.optim not in STATES:
        notes.append(f"optim: {h.optim} is counted as adamw_torch (8 bytes per trained weight)")
    if not packed:
        twice = "" if experiment.is_sft else "prompts are computed twice, and "
        notes.append(f"plain path: {twice}sequences are padded")
    if is_by_memory(machine, packed=packed) and (idle := idle_batch(experiment)):
        notes.append(idle)
    return notes
