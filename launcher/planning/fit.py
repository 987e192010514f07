"""Compares what an experiment needs with what a machine has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..data.pairs import Pairs
from ..experiment.schema import Experiment
from ..job.presets import read_parallelism
from ..runs.known import duration
from .copies import copies_of
from .estimate import UTILISATION, Estimate, estimate, fits
from .machines import main_memory
from .machines.gpus import Gpu
from .machines.here import gpu_here
from .remedies import Change, cheaper, simplest_that_fits
from .sizes.machine import Machine
from .sizes.model_config import ModelConfig
from .tokens.earlier import counted_work
from .tokens.work import Work

GIB: Final = 2**30


@dataclass(frozen=True)
class Fit:
    """What an experiment needs on a machine, what the machine has, and whether it fits."""

    experiment: Experiment
    config: ModelConfig
    work: Work
    machine: Machine
    memory: int | None  # bytes of one GPU, or of main memory per process
    share: float  # share of ``memory`` that the run may use
    estimate: Estimate
    changes: tuple[Change, ...]
    why: str | None  # why a parallelism was chosen automatically

    def json(self) -> dict[str, Any]:
        return {
            "model": self.experiment.model_name,
            "parameters": self.config.parameters,
            "machine": asdict(self.machine),
            "memory_bytes": self.memory,
            "usable_share": self.share,
            "work": {name: value for name, value in asdict(self.work).items() if name != "longest_pairs"},
            "estimate": {**asdict(self.estimate), "total": self.estimate.total},
            "fits": self.fits,
            "verdict": self.verdict,
            "parallelism": self.why,
            **({"copies": dict(self.copies)} if self.copies else {}),
            "changes": [{**asdict(change), "options": change.options} for change in self.changes],
        }

    @property
    def copies(self) -> dict[str, str]:
        """Label -> fact about the copies in ``checkpoint_to``; empty without it."""
        return copies_of(self.experiment, self.config, self.estimate)

    @property
    def fits(self) -> bool | None:
        """None if the machine's memory is unknown."""
        return None if self.memory is None else fits(self.estimate, self.memory, self.share)

    @property
    def device(self) -> str:
        if self.machine.cuda:
            name = self.machine.gpu.name if self.machine.gpu else "GPU"
            return name if self.machine.world == 1 else f"{self.machine.world} × {name}, {self.machine.parallelism}"
        return "the CPU" if self.machine.world == 1 else f"{self.machine.world} processes on the CPU"

    @property
    def verdict(self) -> str:
        return self.verdict_on("")

    def verdict_on(self, device: str) -> str:
        """The verdict, with the device's name."""
        total = f"about {gib(self.estimate.total)} GiB per {'GPU' if self.machine.cuda else 'process'}"
        if self.memory is None:
            return f"{total}; the available memory is unknown"
        room = f"of {gib(self.memory)} GiB"
        if self.share < 1:
            room += f" ({gib(int(self.memory * self.share))} GiB usable: gpu_memory_utilization {self.share:g})"
        return f"{'fits' if self.fits else 'does not fit'}{f' on {device}' if device else ''}: {total} {room}"

    @property
    def time(self) -> str:
        """Time of training and evaluations in words; an upper bound if the tokens are not counted yet."""
        found, machine = self.estimate, self.machine
        pairs = f"{self.work.held_out:,} pair{'' if self.work.held_out == 1 else 's'}"
        evaluated = (
            f", {found.evaluations:,} evaluation{'' if found.evaluations == 1 else 's'} of {pairs}" if found.evaluations else ""
        )
        tokens = f"{'' if found.exact else '≤ '}{found.tokens:,} tokens"
        work = f"{found.steps:,} step{'' if found.steps == 1 else 's'}{evaluated}, {tokens}, {found.flops:.1e} FLOPs"
        if not machine.cuda:
            return f"no time estimate on a CPU ({work})"
        if found.seconds is None or machine.gpu is None or machine.gpu.flops is None:
            return f"no time estimate: the GPU's speed is unknown ({work})"
        speed = f"{UTILISATION:.0%} of {machine.gpu.flops / 1e12:g} TFLOP/s{' each' if machine.world > 1 else ''}"
        takes = f"{'about' if found.exact else 'at most'} {duration(max(1, found.seconds))}"
        return f"{takes}: {work} at {speed}"


def fit(
    experiment: Experiment,
    config: ModelConfig,
    pairs: Pairs | Work,
    gpu: Gpu | None,
    caller: Mapping[str, str],
    *,
    changes: bool = True,
) -> Fit:
    """``pairs``: the data, or their size. ``gpu``: None for this machine. ``changes``: also look for changes that make it fit."""
    launch, h = experiment.launch, experiment.hyperparameters
    there = 0
    if gpu is None and launch.gpus != 0:
        gpu, there = gpu_here(caller)
    work = pairs if isinstance(pairs, Work) else counted_work(experiment, pairs)
    if gpu is None:
        world = (launch.processes or 1) * launch.nodes
        machine, why = Machine(world, sharing(experiment), cuda=False), None
        memory = main_memory.total()
        memory = None if memory is None else memory * launch.nodes // world
    else:
        count = launch.gpus if isinstance(launch.gpus, int) and launch.gpus else max(1, there)
        name, why = _chosen(experiment, config, count * launch.nodes, gpu)
        machine, memory = Machine(count * launch.nodes, name, gpu=gpu), gpu.memory
    share = h.gpu_memory_utilization if machine.cuda else 1.0
    found = estimate(experiment, config, work, machine)
    does_not = memory is not None and not fits(found, memory, share)
    better = tuple(cheaper(experiment, config, work, machine, memory)) if changes and does_not and memory is not None else ()
    return Fit(experiment, config, work, machine, memory, share, found, better, why)


def sharing(experiment: Experiment) -> str:
    """The parallelism as estimates name it. A user's DeepSpeed file counts as its ZeRO stage."""
    name = experiment.launch.parallelism
    if name in ("auto", "ddp"):
        return "ddp"
    chosen = read_parallelism(name, Path())
    zero = chosen.deepspeed["zero_optimization"] if chosen.deepspeed is not None else {}
    offloads = str((zero.get("offload_optimizer") or {}).get("device", "none")) != "none"
    return f"zero{chosen.stage}" + ("_offload" if offloads and chosen.stage > 1 else "")


def gib(size: int) -> str:
    return f"{size / GIB:.2f}"


def _chosen(experiment: Experiment, config: ModelConfig, world: int, gpu: Gpu) -> tuple[str, str | None]:
    if experiment.launch.parallelism != "auto":
        return sharing(experiment), None
    if world == 1:
        return "ddp", None
    longest = experiment.hyperparameters.max_seq_length  # like `run`, which chooses before it reads the data
    return simplest_that_fits(experiment, config, longest=longest, world=world, gpu_bytes=gpu.memory)
