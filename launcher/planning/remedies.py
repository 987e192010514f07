"""Changes that make an experiment fit a GPU, cheapest first, and the simplest parallelism that fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

from ..experiment.schema import Experiment
from .estimate import Estimate, estimate, fits
from .machines.gpus import Gpu
from .rows import is_by_memory, is_packed
from .sizes.machine import Machine
from .sizes.model_config import ModelConfig
from .tokens.work import Work

# Simplest first: fewer parts that can fail, and less communication between ranks.
ORDER: Final = ("ddp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")


@dataclass(frozen=True)
class Change:
    """Settings (``--set KEY=VALUE``) with which the run needs ``total`` bytes per rank, and their cost."""

    settings: Mapping[str, Any]
    total: int
    fits: bool
    cost: str

    @property
    def options(self) -> str:
        return " ".join(f"--set {key}={_yaml(value)}" for key, value in self.settings.items())


def cheaper(
    experiment: Experiment, config: ModelConfig, work: Work, machine: Machine, memory: int, *, most_gpus: int = 8
) -> list[Change]:
    """At most three of the cheapest changes that make the run fit into ``memory`` bytes; if none fits, the closest one.

    Tries single changes first, then combinations of two and three.
    """
    single = list(_changes(experiment, config, work, machine, memory, most_gpus))
    found = [change for change in single if change.fits]
    if found:
        return found[:3]
    trials = [*combinations(single, 2), *combinations(single, 3)]
    nearest: Change | None = None
    for parts in trials:
        if len({key for part in parts for key in part.settings}) < sum(len(part.settings) for part in parts):
            continue  # two of them set the same key
        settings = {key: value for part in parts for key, value in part.settings.items()}
        together = _tried(experiment, config, work, machine, memory, settings, "; ".join(part.cost for part in parts))
        if together is None:
            continue
        if together.fits:
            return [together]
        nearest = together if nearest is None or together.total < nearest.total else nearest
    return [] if nearest is None else [nearest]


def simplest_that_fits(
    experiment: Experiment,
    config: ModelConfig,
    *,
    longest: int,
    world: int,
    gpu_bytes: int,
    pairs: int = 1000,
    work: Work | None = None,
) -> tuple[str, str]:
    """(the simplest parallelism that fits into ``gpu_bytes`` per rank, why).

    ``work``: size of the data if known; None: every sequence has ``longest`` tokens.
    """
    h, gpu = experiment.hyperparameters, Gpu("GPU", gpu_bytes, None)
    work = work or Work.at_most(longest, pairs, answers=1 if experiment.is_sft else 2)
    room = f"{_gib(int(gpu_bytes * h.gpu_memory_utilization))} per GPU"
    smallest: tuple[int, str] | None = None
    for name in ORDER:
        if name == "zero1" and not h.full_finetuning:
            continue  # an adapter's optimizer is too small to be worth sharding
        if not _allowed(experiment, name) or (world == 1 and name in ("zero1", "zero2", "zero3")):
            continue
        found = estimate(experiment, config, work, Machine(world, name, gpu=gpu))
        if fits(found, gpu_bytes, h.gpu_memory_utilization):
            return name, f"parallelism: {name}, {_why(name, found)}: about {_gib(found.total)} of {room}"
        if smallest is None or found.total < smallest[0]:
            smallest = (found.total, name)
    assert smallest is not None, "ddp is always allowed"
    return smallest[1], (
        f"parallelism: {smallest[1]}, which needs the least memory and may still not fit: about {_gib(smallest[0])} of {room}; "
        "`launcher plan` shows what would fit"
    )


def _why(name: str, found: Estimate) -> str:
    return {
        "ddp": "the whole model on every rank",
        "zero1": "optimizer state sharded over the ranks",
        "zero2": "optimizer state and gradients sharded over the ranks",
        "zero3": "weights, gradients and optimizer state sharded over the ranks",
        "zero2_offload": f"optimizer offloaded to main memory, {_gib(found.host)} per rank",
        "zero3_offload": f"weights and optimizer offloaded to main memory, {_gib(found.host)} per rank",
    }[name]


def _allowed(experiment: Experiment, name: str) -> bool:
    """Whether the trainer supports it: ZeRO-3 not with quantised weights, ZeRO not with a reference that is updated."""
    h = experiment.hyperparameters
    quantised = h.load_in_4bit or h.load_in_8bit
    return not (quantised and name.startswith("zero3")) and not (name != "ddp" and h.trl.get("sync_ref_model"))


def _changes(
    experiment: Experiment, config: ModelConfig, work: Work, machine: Machine, memory: int, most_gpus: int
) -> Iterator[Change]:
    """Every single change that needs less memory, cheapest first. Of a setting with several values the first that fits, else
    the strongest.
    """
    now = estimate(experiment, config, work, machine).total
    for settings in _candidates(experiment, config, work, machine, most_gpus):
        tried = [
            change
            for values, cost in settings
            if (change := _tried(experiment, config, work, machine, memory, values, cost)) is not None and change.total < now
        ]
        if tried:
            yield next((change for change in tried if change.fits), tried[-1])


def _candidates(
    experiment: Experiment, config: ModelConfig, work: Work, machine: Machine, most_gpus: int
) -> Iterator[list[tuple[dict[str, Any], str]]]:
    h, hyper = experiment.hyperparameters, "hyperparameters."
    if h.use_gradient_checkpointing is not True:
        yield [({f"{hyper}use_gradient_checkpointing": True}, "about a third slower; same result")]
    batch, total = h.per_device_train_batch_size, experiment.global_batch
    sizes = [size for size in range(batch - 1, 0, -1) if total % (size * machine.world) == 0]
    if sizes and not is_by_memory(machine, packed=is_packed(h)):
        same = {"launch.global_batch_size": total}
        yield [({f"{hyper}per_device_train_batch_size": size, **same}, "smaller micro-batches; same result") for size in sizes]
    if machine.cuda and not h.full_finetuning and not (h.load_in_4bit or h.load_in_8bit) and machine.stage < 3:
        yield [({f"{hyper}load_in_4bit": True}, "QLoRA: base weights in 4 bits; slower, nearly the same quality")]
    if h.full_finetuning and "8bit" not in h.optim and machine.cuda:
        yield [({f"{hyper}optim": "adamw_8bit"}, "optimizer state in 8 bits; nearly the same result")]
    shorter = [limit for limit in (4096, 2048, 1536, 1024, 768, 512, 256) if limit < min(work.longest, h.max_seq_length)]
    if shorter:
        yield [({f"{hyper}max_seq_length": limit}, "longer answers are truncated") for limit in shorter]
    if machine.cuda:
        for name in ORDER[1:] if h.full_finetuning else ("zero3", "zero3_offload"):
            worlds = [n for n in (2, 4, 8) if machine.world < n <= most_gpus and total % n == 0]
            if name.endswith("_offload"):
                worlds = [machine.world]
            elif machine.world > 1 and name != machine.parallelism:
                worlds = [machine.world, *worlds]
            if worlds and name != machine.parallelism and _allowed(experiment, name):
                yield [_spread(experiment, name, n, machine) for n in worlds]
    if h.full_finetuning:
        yield [({f"{hyper}full_finetuning": False}, "trains a LoRA adapter instead of all weights")]


def _spread(experiment: Experiment, name: str, world: int, machine: Machine) -> tuple[dict[str, Any], str]:
    settings: dict[str, Any] = {"launch.parallelism": name}
    if world == machine.world:
        return settings, "offloads to main memory; slower" if name.endswith("_offload") else "more communication between the GPUs"
    settings["launch.gpus"] = world // max(1, experiment.launch.nodes)
    if experiment.global_batch % (world * experiment.hyperparameters.per_device_train_batch_size):
        settings["hyperparameters.per_device_train_batch_size"] = 1
    settings["launch.global_batch_size"] = experiment.global_batch
    return settings, f"{world} GPUs"


def _tried(
    experiment: Experiment,
    config: ModelConfig,
    work: Work,
    machine: Machine,
    memory: int,
    settings: Mapping[str, Any],
    cost: str,
) -> Change | None:
    """The change with its memory; None if the settings contradict each other."""
    changed = _with(experiment, settings)
    if changed is None:
        return None
    limit = settings.get("hyperparameters.max_seq_length")
    work = work if limit is None else _cut(work, limit)
    world = settings.get("launch.gpus", machine.world // max(1, experiment.launch.nodes)) * max(1, experiment.launch.nodes)
    machine = replace(
        machine, world=max(1, world or machine.world), parallelism=settings.get("launch.parallelism", machine.parallelism)
    )
    if not _allowed(changed, machine.parallelism):
        return None
    found = estimate(changed, config, work, machine)
    return Change(settings, found.total, fits(found, memory, changed.hyperparameters.gpu_memory_utilization), cost)


def _with(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment | None:
    from pydantic import ValidationError

    data = experiment.model_dump(mode="json", exclude_unset=True)
    for key, value in settings.items():
        section, name = key.split(".")
        data.setdefault(section, {})[name] = value
    try:
        return Experiment.parse(data)
    except ValidationError:
        return None


def _cut(work: Work, limit: int) -> Work:
    share, most = limit / work.longest, work.sequences * limit
    return replace(
        work,
        longest=limit,
        longest_pair=min(work.longest_pair, most),
        longest_pairs=tuple(min(length, most) for length in work.longest_pairs),
        tokens=max(1, int(work.tokens * share)),
        packed=max(1, int(work.packed * share)),
        answer_tokens=None if work.answer_tokens is None else max(1, int(work.answer_tokens * share)),
        exact=False,
    )


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
