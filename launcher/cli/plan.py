"""The verb that says, before anything is built or taken, what a run needs, how long it takes, and what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import ExperimentError
from .options import experiment_argument, file_option, json_option, set_option

if TYPE_CHECKING:
    from ..estimate import Estimate, Machine, Work
    from ..experiment import Experiment
    from ..gpus import Gpu
    from ..model_config import ModelConfig
    from ..pairs import Pairs
    from ..remedies import Change

GIB: Final = 2**30
# What the tokens of a pair depend on, beside model and data.
_TOKENS: Final = ("max_seq_length", "enable_thinking", "thinking_mode", "add_generation_prompt")


@click.command("plan", short_help="Say what EXP needs: memory, time, and what makes it fit.")
@experiment_argument()
@click.option("--gpu", "gpu_name", metavar="NAME", help="Plan for this GPU, as 'RTX 4090' (default: the one of this machine).")
@click.option("--gpu-memory", metavar="SIZE", help="Plan for a GPU with so much memory, as 24GiB.")
@click.option("--gpus", type=click.IntRange(1), help="GPUs per node (default: launch.gpus).")
@click.option("--nodes", type=click.IntRange(1), help="Machines (default: launch.nodes).")
@click.option("--parallelism", metavar="NAME", help="ddp, zero1, zero2, zero3 … (default: launch.parallelism).")
@click.option(
    "--model-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's config.json (default: checked in, cached, or from the hub or s3://).",
)
@set_option
@file_option
@json_option
def plan(
    experiment: str,
    gpu_name: str | None,
    gpu_memory: str | None,
    gpus: int | None,
    nodes: int | None,
    parallelism: str | None,
    model_config: Path | None,
    overrides: tuple[str, ...],
    file: Path | None,
    as_json: bool,
) -> None:
    """Say what the experiment EXP needs: memory, steps, tokens, time; and the cheapest changes that make it fit.

    Needs neither torch nor the model's weights: its config.json is enough.
    """
    import json

    from ..config import load, read_env
    from ..model_config import find_model_config
    from ..pairs import read_pairs
    from .data import reading

    caller = read_env(Path.cwd())
    loaded = load(experiment, root=Path(), file=file, overrides=overrides)
    gpu = _wanted(gpu_name, gpu_memory)
    with loaded.placed():
        changed = _changed(loaded.experiment, gpus, nodes, parallelism)
        name, storage = changed.model_name, changed.storage_config
        sizes, where = find_model_config(name, Path(), caller, model_config, storage=storage)
        pairs = read_pairs(changed, reading(Path(), caller))
        found = planned(changed, sizes, pairs, gpu, caller)
    if as_json:
        click.echo(json.dumps(_as_json(loaded.key, found, where), indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(_lines(loaded.key, str(loaded.file), found, where)))


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

    @property
    def fits(self) -> bool | None:
        """None where it is not known how much memory there is."""
        from ..estimate import fits

        return None if self.memory is None else fits(self.estimate, self.memory, self.share)

    @property
    def device(self) -> str:
        if self.machine.cuda:
            name = self.machine.gpu.name if self.machine.gpu else "GPU"
            return name if self.machine.world == 1 else f"{self.machine.world} × {name}, {self.machine.parallelism}"
        return "the CPU" if self.machine.world == 1 else f"{self.machine.world} processes on the CPU"

    @property
    def verdict(self) -> str:
        total = f"about {_gib(self.estimate.total)} GiB a {'GPU' if self.machine.cuda else 'process'}"
        if self.memory is None:
            return f"{total}; how much there is, is not known"
        allowed = f" ({_gib(int(self.memory * self.share))} GiB at gpu_memory_utilization {self.share:g})"
        room = f"{_gib(self.memory)} GiB" + (allowed if self.share < 1 else "")
        return f"it {'fits' if self.fits else 'does not fit'}: {total}, of {room}"

    @property
    def time(self) -> str:
        found, machine = self.estimate, self.machine
        most = "" if found.exact else "at most "
        what = f"{found.steps:,} steps, {most}{found.tokens:,} tokens, {found.flops:.1e} operations"
        if found.seconds is None or machine.gpu is None or machine.gpu.flops is None:
            return f"{what}; how fast this device computes is not known"
        from ..estimate import UTILISATION
        from .known_runs import duration

        speed = f"{UTILISATION:.0%} of {machine.gpu.flops / 1e12:g} TFLOP/s"
        each = " each" if machine.world > 1 else ""
        return f"{what}: {most}about {duration(max(1, found.seconds))} at {speed}{each}, without evaluations"


def planned(
    experiment: Experiment, config: ModelConfig, pairs: Pairs, gpu: Gpu | None, caller: Mapping[str, str], *, changes: bool = True
) -> Planned:
    """``gpu``: what to plan for; None: this machine."""
    from ..estimate import Machine, estimate, fits
    from ..remedies import cheaper

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
    from ..model_config import find_model_config

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
    from ..estimate import Machine, estimate
    from ..model_config import find_model_config
    from .parallelism import PRODUCT, selected_gpu

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
        less = f", or {_gib(least)} GiB with activations computed again" if least < total else ""
    unknown = f"what the cluster's have is not known here (launch.kubernetes.node_selector may name them: {PRODUCT})"
    return [f"{'memory':<12}about {_gib(total)} GiB a GPU{less}; {unknown}"]


def _no_sizes(error: ExperimentError) -> str:
    return f"{'memory':<12}not known: {error.mistakes[0].where}: {error.mistakes[0].what}; `launcher plan` says more"


def _plan_hint(found: Planned) -> str:
    return "" if found.fits is not False else "; `launcher plan` says what would"


def _wanted(name: str | None, memory: str | None) -> Gpu | None:
    from ..errors import UsageError
    from ..gpus import Gpu, find_gpu, parse_memory

    if name is not None and memory is not None:
        raise UsageError("--gpu and --gpu-memory say the same: give one")
    if name is not None:
        return find_gpu(name)
    return None if memory is None else Gpu(f"GPU of {memory}", parse_memory(memory), None)


def _changed(experiment: Experiment, gpus: int | None, nodes: int | None, parallelism: str | None) -> Experiment:
    given = {"gpus": gpus, "nodes": nodes, "parallelism": parallelism}
    updates = {name: value for name, value in given.items() if value is not None}
    return experiment.model_copy(update={"launch": experiment.launch.model_copy(update=updates)}) if updates else experiment


def gpu_here(caller: Mapping[str, str]) -> tuple[Gpu | None, int]:
    """(the smallest GPU of this machine, how many there are), as nvidia-smi says; (None, 0) where there is none."""
    import subprocess

    from ..backends.host import gpus_there
    from ..gpus import MIB, gpu_there

    count = gpus_there(caller)
    if not count:
        return None, 0
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return None, 0
    found = []
    for line in listed:
        name, _, memory = line.rpartition(",")
        if memory.strip().isdecimal():
            found.append(gpu_there(name, int(memory) * MIB))
    return (min(found, key=lambda gpu: gpu.memory), count) if found else (None, 0)


def _main_memory() -> int | None:
    file = Path("/proc/meminfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    total = next((line.split()[1] for line in lines if line.startswith("MemTotal:")), None)
    return int(total) * 1024 if total else None


def _shared(experiment: Experiment, config: ModelConfig, work: Work, world: int, gpu: Gpu) -> tuple[str, str | None]:
    from ..remedies import simplest_that_fits

    if experiment.launch.parallelism != "auto":
        return _sharing(experiment), None
    if world == 1:
        return "ddp", None
    longest = experiment.hyperparameters.max_seq_length  # as `run` does, which chooses before it has read the data
    return simplest_that_fits(experiment, config, longest=longest, world=world, gpu_bytes=gpu.memory)


def _sharing(experiment: Experiment) -> str:
    """The way to share the work by the name that an estimate knows; a user's own DeepSpeed file is taken for its stage."""
    from ..presets import read_parallelism

    name = experiment.launch.parallelism
    if name in ("auto", "ddp"):
        return "ddp"
    chosen = read_parallelism(name, Path())
    zero = chosen.deepspeed["zero_optimization"] if chosen.deepspeed is not None else {}
    is_away = str((zero.get("offload_optimizer") or {}).get("device", "none")) != "none"
    return f"zero{chosen.stage}" + ("_offload" if is_away and chosen.stage > 1 else "")


def _work(experiment: Experiment, pairs: Pairs) -> Work:
    """Tokens as an earlier run of the same data counted them, else bounds."""
    from .derived import work_at_most
    from .known_runs import newest_first, output_dirs

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
    import json

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


def _lines(key: str, file: str, found: Planned, where: str) -> list[str]:
    h, guess, work = found.experiment.hyperparameters, found.estimate, found.work
    trained = "all weights" if h.full_finetuning else f"a LoRA adapter of rank {h.r}"
    tokens = f"{work.tokens:,} tokens an epoch" if work.exact else f"at most {work.tokens:,} tokens an epoch (counted in bytes)"
    again = "activations are computed again" if guess.recompute else "activations are kept"
    facts = {
        "experiment": f"{key} ({file}) on {found.device}",
        "model": f"{found.experiment.model_name}: {found.config.parameters:,} parameters; trains {trained} ({where})",
        "data": f"{work.pairs:,} pairs, {tokens}, longest sequence {work.longest:,}",
        "a step": f"{found.experiment.global_batch} pairs, at most {guess.row:,} tokens at once; {again}",
    }
    rows = [(part.name, _gib(part.size), part.why) for part in guess.parts if part.size]
    rows.append(("total", _gib(guess.total), f"of {_gib(found.memory)}" if found.memory is not None else ""))
    lines = [f"{name:<12}{fact}" for name, fact in facts.items()]
    lines += ["", f"{'memory':<12}{'GiB':>7}", *(f"{name:<12}{size:>7}  {why}".rstrip() for name, size, why in rows)]
    if guess.host:
        lines.append(f"{'main memory':<12}{_gib(guess.host):>7}  a rank's, for what was moved there")
    lines += ["", f"{'time':<12}{found.time}", f"{'verdict':<12}{found.verdict}"]
    lines += [f"{'note':<12}{note}" for note in (*([found.why] if found.why else []), *guess.notes)]
    if not found.machine.cuda and found.experiment.launch.gpus != 0:
        lines.append(f"{'note':<12}there is no GPU here: --gpu 'RTX 4090' or --gpu-memory 24GiB plans for one")
    return lines + _remedies(found)


def _remedies(found: Planned) -> list[str]:
    if found.fits is not False:
        return []
    if not any(change.fits for change in found.changes):
        head = "no change makes it fit; nearest comes:" if found.changes else "no change makes it fit: take a smaller model"
    else:
        head = "the cheapest changes that make it fit:"
    lines = ["", head]
    for change in found.changes:
        lines += [f"  {change.options}", f"      {_gib(change.total)} GiB; {change.cost}"]
    return lines


def _as_json(key: str, found: Planned, where: str) -> dict[str, Any]:
    guess = found.estimate
    return {
        "key": key,
        "model": found.experiment.model_name,
        "parameters": found.config.parameters,
        "sizes_from": where,
        "machine": asdict(found.machine),
        "memory_bytes": found.memory,
        "usable_share": found.share,
        "work": asdict(found.work),
        "estimate": {**asdict(guess), "total": guess.total},
        "fits": found.fits,
        "verdict": found.verdict,
        "parallelism": found.why,
        "changes": [{**asdict(change), "options": change.options} for change in found.changes],
    }


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


VERBS: Final = (plan,)
