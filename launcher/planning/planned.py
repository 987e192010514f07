"""An experiment on a machine: what it needs, what there is, and whether it fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..data.pairs import Pairs
from ..errors import ExperimentError
from ..experiment.schema import Experiment
from ..job.presets import read_parallelism
from ..runs.finding import newest_first, output_dirs
from ..runs.known import duration
from .estimate import UTILISATION, Estimate, Machine, Work, estimate, fits
from .gpus import Gpu, gpu_here
from .model_config import ModelConfig, find_model_config
from .parallelism import PRODUCT, selected_gpu
from .remedies import Change, cheaper, simplest_that_fits
from .work import work_at_most

GIB: Final = 2**30
# What the tokens of a pair depend on, beside model and data.
_TOKENS: Final = ("max_seq_length", "enable_thinking", "thinking_mode", "add_generation_prompt")


@dataclass(frozen=True)
class Planned:
    """An experiment on a machine: what it needs, what there is, whether it fits."""

    experiment: Experiment
    config: ModelConfig
    work: Work
    machine: Machine
    memory: int | None  # bytes of a GPU, or of main memory for a rank
    share: float  # of it that the run may take
    estimate: Estimate
    changes: tuple[Change, ...]
    why: str | None  # this way of sharing the work

    def json(self, key: str, sizes_from: str) -> dict[str, Any]:
        """``key`` names the experiment; ``sizes_from``: where the model's sizes were found."""
        return {
            "key": key,
            "model": self.experiment.model_name,
            "parameters": self.config.parameters,
            "sizes_from": sizes_from,
            "machine": asdict(self.machine),
            "memory_bytes": self.memory,
            "usable_share": self.share,
            "work": asdict(self.work),
            "estimate": {**asdict(self.estimate), "total": self.estimate.total},
            "fits": self.fits,
            "verdict": self.verdict,
            "parallelism": self.why,
            "changes": [{**asdict(change), "options": change.options} for change in self.changes],
        }

    @property
    def fits(self) -> bool | None:
        """None where it is not known how much memory there is."""
        return None if self.memory is None else fits(self.estimate, self.memory, self.share)

    @property
    def device(self) -> str:
        if self.machine.cuda:
            name = self.machine.gpu.name if self.machine.gpu else "GPU"
            return name if self.machine.world == 1 else f"{self.machine.world} × {name}, {self.machine.parallelism}"
        return "the CPU" if self.machine.world == 1 else f"{self.machine.world} processes on the CPU"

    @property
    def verdict(self) -> str:
        total = f"about {gib(self.estimate.total)} GiB a {'GPU' if self.machine.cuda else 'process'}"
        if self.memory is None:
            return f"{total}; how much there is, is not known"
        allowed = f" ({gib(int(self.memory * self.share))} GiB at gpu_memory_utilization {self.share:g})"
        room = f"{gib(self.memory)} GiB" + (allowed if self.share < 1 else "")
        return f"it {'fits' if self.fits else 'does not fit'}: {total}, of {room}"

    @property
    def time(self) -> str:
        found, machine = self.estimate, self.machine
        most = "" if found.exact else "at most "
        what = f"{found.steps:,} steps, {most}{found.tokens:,} tokens, {found.flops:.1e} operations"
        if found.seconds is None or machine.gpu is None or machine.gpu.flops is None:
            return f"{what}; how fast this device computes is not known"

        speed = f"{UTILISATION:.0%} of {machine.gpu.flops / 1e12:g} TFLOP/s"
        each = " each" if machine.world > 1 else ""
        return f"{what}: {most}about {duration(max(1, found.seconds))} at {speed}{each}, without evaluations"


def planned(
    experiment: Experiment, config: ModelConfig, pairs: Pairs, gpu: Gpu | None, caller: Mapping[str, str], *, changes: bool = True
) -> Planned:
    """``gpu``: what to plan for; None: this machine."""

    launch, h = experiment.launch, experiment.hyperparameters
    there = 0
    if gpu is None and launch.gpus != 0:
        gpu, there = gpu_here(caller)
    work = _work(experiment, pairs)
    if gpu is None:
        world = (launch.processes or 1) * launch.nodes
        machine, why = Machine(world, _sharing(experiment), cuda=False), None
        memory = _main_memory()
        memory = None if memory is None else memory * launch.nodes // world
    else:
        count = launch.gpus if isinstance(launch.gpus, int) and launch.gpus else max(1, there)
        name, why = _shared(experiment, config, work, count * launch.nodes, gpu)
        machine, memory = Machine(count * launch.nodes, name, gpu=gpu), gpu.memory
    share = h.gpu_memory_utilization if machine.cuda else 1.0
    found = estimate(experiment, config, work, machine)
    does_not = memory is not None and not fits(found, memory, share)
    better = tuple(cheaper(experiment, config, work, machine, memory)) if changes and does_not and memory is not None else ()
    return Planned(experiment, config, work, machine, memory, share, found, better, why)


def said_before_run(experiment: Experiment, pairs: Pairs, root: Path, caller: Mapping[str, str]) -> list[str]:
    """Two lines about memory and time for this machine, or one that says why there are none; asks no network."""

    try:
        config, _ = find_model_config(experiment.model_name, root, caller, network=False)
    except ExperimentError as error:
        return [_no_sizes(error)]
    found = planned(experiment, config, pairs, None, caller, changes=False)
    return [f"{'memory':<12}{found.verdict}{_plan_hint(found)}", f"{'time':<12}{found.time}"]


def said_before_submit(experiment: Experiment, pairs: Pairs, root: Path, caller: Mapping[str, str]) -> list[str]:
    """One line about the memory of a cluster's GPUs, or none for a run that takes none; asks no network.

    Whether it fits is said where the experiment's node selector names the GPU, else what a GPU needs.
    """

    launch = experiment.launch
    if launch.gpus == 0:
        return []
    try:
        config, _ = find_model_config(experiment.model_name, root, caller, network=False)
    except ExperimentError as error:
        return [_no_sizes(error)]
    gpu = selected_gpu(experiment)
    if gpu is not None:
        found = planned(experiment, config, pairs, gpu, caller, changes=False)
        return [f"{'memory':<12}on {gpu.name} {found.verdict}{_plan_hint(found)}"]
    count = launch.gpus if isinstance(launch.gpus, int) else 1
    work, machine = _work(experiment, pairs), Machine(count * launch.nodes, _sharing(experiment))
    total = estimate(experiment, config, work, machine).total
    less = ""
    if experiment.hyperparameters.use_gradient_checkpointing == "auto":
        least = estimate(experiment, config, work, machine, recompute=True).total
        less = f", or {gib(least)} GiB with activations computed again" if least < total else ""
    unknown = f"what the cluster's have is not known here (launch.kubernetes.node_selector may name them: {PRODUCT})"
    return [f"{'memory':<12}about {gib(total)} GiB a GPU{less}; {unknown}"]


def _no_sizes(error: ExperimentError) -> str:
    return f"{'memory':<12}not known: {error.mistakes[0].where}: {error.mistakes[0].what}; `launcher plan` says more"


def _plan_hint(found: Planned) -> str:
    return "" if found.fits is not False else "; `launcher plan` says what would"


def _main_memory() -> int | None:
    file = Path("/proc/meminfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    total = next((line.split()[1] for line in lines if line.startswith("MemTotal:")), None)
    return int(total) * 1024 if total else None


def _shared(experiment: Experiment, config: ModelConfig, work: Work, world: int, gpu: Gpu) -> tuple[str, str | None]:

    if experiment.launch.parallelism != "auto":
        return _sharing(experiment), None
    if world == 1:
        return "ddp", None
    longest = experiment.hyperparameters.max_seq_length  # as `run` does, which chooses before it has read the data
    return simplest_that_fits(experiment, config, longest=longest, world=world, gpu_bytes=gpu.memory)


def _sharing(experiment: Experiment) -> str:
    """The way to share the work by the name that an estimate knows; a user's own DeepSpeed file is taken for its stage."""

    name = experiment.launch.parallelism
    if name in ("auto", "ddp"):
        return "ddp"
    chosen = read_parallelism(name, Path())
    zero = chosen.deepspeed["zero_optimization"] if chosen.deepspeed is not None else {}
    is_away = str((zero.get("offload_optimizer") or {}).get("device", "none")) != "none"
    return f"zero{chosen.stage}" + ("_offload" if is_away and chosen.stage > 1 else "")


def _work(experiment: Experiment, pairs: Pairs) -> Work:
    """Tokens as an earlier run of the same data counted them, else bounds."""

    limit = experiment.hyperparameters.max_seq_length
    most = work_at_most(pairs.train, limit)
    mine = _hashes([asdict(source) for source in pairs.sources])
    for run in newest_first(output_dirs(Path())):
        record = run.read_record()
        work, data = record.get("work"), record.get("data")
        if not isinstance(work, dict) or not isinstance(data, list) or _hashes(data) != mine:
            continue
        if work.get("pairs") != most.pairs or not _same_tokens(experiment, run.experiment):
            continue
        tokens, longest = int(work["tokens"]), int(work["longest"])
        packed = min(tokens, max(tokens // 2, round(tokens * most.packed / most.tokens)))
        longest_pair = min(2 * longest, most.longest_pair)
        return replace(most, tokens=tokens, packed=packed, longest=longest, longest_pair=longest_pair, exact=True)
    return most


def _hashes(sources: list[Any]) -> dict[str, str]:
    return {str(source.get("role")): str(source.get("sha256")) for source in sources if source.get("role") != "validation"}


def _same_tokens(experiment: Experiment, file: Path) -> bool:
    """Whether the run whose experiment ``file`` holds has made the same tokens of the same rows."""

    try:
        other = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    mine = experiment.model_dump(mode="json")
    names = ("model_name", "prompt_name", "dpo_column_mapping_config", "column_mapping_config")
    hyper = other.get("hyperparameters", {})
    return all(mine[name] == other.get(name) for name in names) and all(
        mine["hyperparameters"][name] == hyper.get(name) for name in _TOKENS
    )


def gib(size: int) -> str:
    return f"{size / GIB:.2f}"
