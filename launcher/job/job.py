"""Job: one run of an experiment, independent of the backend. ``plan`` is pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import ExperimentError, Mistake
from ..experiment.schema import Experiment, Launch
from ..runs.run_dir import RunDir, expanded
from ..runs.writable import unwritable
from .topology import DDP, Node, Parallelism, Topology


@dataclass(frozen=True)
class Resources:
    """What a run requests per node. None: the backend's default."""

    cpus: float | None
    memory: str | None
    shm_size: str | None


@dataclass(frozen=True)
class Job:
    """The input of every backend. A step trains ``per_device × accumulation × world`` pairs on ``world`` ranks.

    ``notes``: extra entries for the run's record, such as the run that it repeats.
    """

    run: str
    key: str
    experiment: Experiment
    origin: str | None
    topology: Topology
    node: Node
    accumulation: int
    command: tuple[str, ...]
    env: Mapping[str, str]
    env_names: tuple[str, ...]
    secrets: tuple[str, ...]
    resources: Resources
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def world(self) -> int:
        return self.topology.world

    @property
    def gpus(self) -> int:
        return self.topology.gpus

    @property
    def per_device(self) -> int:
        return self.experiment.hyperparameters.per_device_train_batch_size

    @property
    def devices(self) -> str:
        """Devices and parallelism, in words."""
        parallelism = self.topology.parallelism
        return self.topology.devices + (f", {parallelism.name}" if parallelism.stage or self.world > 1 else "")

    @property
    def batch(self) -> str:
        """The global batch as a product, in words."""
        parts = [
            f"{self.per_device} per device",
            f"{self.accumulation} accumulation",
            f"{self.world} device{'s' * (self.world > 1)}",
        ]
        return f"{self.experiment.global_batch} pairs = {' × '.join(parts)}"


def plan(
    experiment: Experiment,
    *,
    run: str,
    key: str,
    gpus_there: int,
    parallelism: Parallelism = DDP,
    node: Node | None = None,
    origin: str | None = None,
) -> Job:
    """The job of one run on machines with ``gpus_there`` GPUs each. Raises ExperimentError if it is impossible.

    ``node``: this machine's place among several nodes.
    """
    launch = experiment.launch
    topology = topology_of(launch, gpus_there, parallelism)
    mistakes = list(_beyond_the_machine(experiment, topology, gpus_there))
    micro = experiment.hyperparameters.per_device_train_batch_size * topology.world
    accumulation, rest = divmod(experiment.global_batch, micro)
    if not mistakes and (rest or not accumulation):
        mistakes.append(_uneven(experiment, topology.world))
    fixed, names = _environment(launch)
    mistakes += [_reserved(name) for name in (*fixed, *names) if name.startswith("DPO_")]
    if mistakes:
        raise ExperimentError(mistakes)
    return Job(
        run=run,
        key=key,
        experiment=experiment,
        origin=origin,
        topology=topology,
        node=node or Node(),
        accumulation=accumulation,
        command=("python", "-m", "trainer.processes.entrypoint"),
        env=MappingProxyType(fixed),
        env_names=names,
        secrets=experiment.named_secrets,
        resources=Resources(launch.cpus, launch.memory, launch.shm_size),
    )


def topology_of(launch: Launch, gpus_there: int, parallelism: Parallelism = DDP) -> Topology:
    """The ranks that ``launch`` requests on machines with ``gpus_there`` GPUs each."""
    gpus = gpus_there if launch.gpus == "auto" else launch.gpus
    return Topology(gpus, launch.nodes, gpus or launch.processes or 1, parallelism)


def check_outputs(experiment: Experiment, root: Path) -> None:
    """Raises ExperimentError if the output folders of a run on this machine, below ``root``, are not writable."""
    h = experiment.hyperparameters
    folders = {"hyperparameters.model_output_dir": RunDir.of(root, h.model_output_dir, *_shelf(experiment)).path.parent}
    if experiment.save_processed_dataset:
        place = root / expanded(experiment.output_processed_dir) / f"exp_{experiment.experiment_id}"
        folders["output_processed_dir"] = place
    why = {setting: unwritable(folder) for setting, folder in folders.items()}
    mistakes = [
        Mistake(setting, f"cannot write {folders[setting]}", "a folder that can be written or made", found)
        for setting, found in why.items()
        if found is not None
    ]
    if mistakes:
        raise ExperimentError(mistakes)


def _shelf(experiment: Experiment) -> tuple[str, str, str]:
    return experiment.experiment_id, experiment.model_folder, "run"


def _beyond_the_machine(experiment: Experiment, topology: Topology, there: int) -> Iterator[Mistake]:
    gpus, launch, h = topology.gpus, experiment.launch, experiment.hyperparameters
    if gpus > there:
        what = f"requests {gpus} GPU{'s' * (gpus > 1)}, but this machine has {there}"
        yield Mistake("launch.gpus", what, f"at most {there}, or auto for all of them")
    if launch.processes is not None and gpus and launch.processes != gpus:
        yield Mistake("launch.processes", "each GPU runs one process", f"{gpus}, or unset", str(launch.processes))
    if topology.parallelism.stage == 3 and (h.load_in_4bit or h.load_in_8bit):
        what = "ZeRO-3 shards the weights, and quantised weights cannot be sharded"
        yield Mistake("launch.parallelism", what, "ddp, zero1 or zero2", topology.parallelism.name)
    if topology.parallelism.stage and h.trl.get("sync_ref_model"):
        what = "does not work with sync_ref_model"
        yield Mistake("launch.parallelism", what, "ddp", topology.parallelism.name)


def _uneven(experiment: Experiment, world: int) -> Mistake:
    """The mistake for a global batch that does not divide evenly, with the values that work."""
    total, per_device = experiment.global_batch, experiment.hyperparameters.per_device_train_batch_size
    devices = f"{world} device{'s' * (world > 1)}"
    sizes, counts = _divisors(total // world) if total % world == 0 else [], _divisors(total // per_device)
    choices = [f"per_device_train_batch_size {_or(sizes)} with {devices}"] if sizes else []
    if total % per_device == 0 and counts:
        choices.append(f"{_or(counts)} device{'s' * (counts != [1])} with per_device_train_batch_size {per_device}")
    return Mistake(
        "launch.global_batch_size" if experiment.launch.global_batch_size else "per_device_train_batch_size",
        f"a global batch of {total} pairs cannot be split evenly: {per_device} per device × {devices} = {per_device * world}",
        ", or ".join(choices) or f"a global batch that is a multiple of {per_device * world}",
        f"{total} / {per_device * world} = {total / (per_device * world):.4g} accumulation steps",
    )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _or(numbers: list[int]) -> str:
    words = [str(n) for n in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _environment(launch: Launch) -> tuple[dict[str, str], tuple[str, ...]]:
    """(fixed values, names to copy from the caller's environment). A name without a value is copied, as in Docker's env files."""
    if not isinstance(launch.env, Mapping):
        return {}, launch.env
    fixed = {name: _text(value) for name, value in launch.env.items() if value is not None}
    return fixed, tuple(name for name, value in launch.env.items() if value is None)


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reserved(name: str) -> Mistake:
    return Mistake("launch.env", f"{name} is set by the launcher", "a name that does not begin with DPO_")
