"""The result of ``launcher plan``, and its short form before a run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..data.pairs import Pairs, read_pairs
from ..data.tables.reading import Reading
from ..errors import DataError, ExperimentError, UsageError
from ..experiment.files import load, read_env
from ..experiment.schema import Experiment
from ..job.image import described, variant_of
from ..job.starting import paired_loaded
from ..runs.run_dir import expanded
from .copies import copies_of
from .estimate import estimate
from .fit import Fit, fit, gib, sharing
from .machines.gpus import Gpu, find_gpu, parse_memory
from .machines.products import PRODUCT, products_of
from .parallelism import selected_gpu
from .recipes import fitting
from .sizes.config_file import find_model_config
from .sizes.machine import Machine
from .tokens.assumed import full_work
from .tokens.earlier import counted_work
from .tokens.work import Work

_HINT: Final = "; `launcher plan` shows what would"


@dataclass(frozen=True)
class Planned:
    """The experiment ``key`` of ``file`` on a machine. ``sizes_from``: where the model's sizes were read. ``products``: label
    values of the requested GPU on cluster nodes. ``missing``: a data folder that does not exist yet. ``recipes``: recipes
    that would fit instead. ``was_on_cpu``: the experiment sets launch.gpus: 0, but a GPU was requested.
    """

    key: str
    file: Path
    sizes_from: str
    fit: Fit
    products: tuple[str, ...] = ()
    missing: str | None = None
    recipes: tuple[str, ...] = ()
    was_on_cpu: bool = False

    @property
    def on_cluster(self) -> str | None:
        """The command that trains on the requested GPU; None if the node label of that GPU is unknown."""
        if not self.products:
            return None
        gpus = f" --gpus {self.fit.experiment.launch.gpus}" if self.was_on_cpu else ""
        return f"launcher submit {self.key}{gpus} --gpu {' or --gpu '.join(self.products)}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions of the plan that differ from a run."""
        if not self.was_on_cpu:
            return ()
        gpus = self.fit.experiment.launch.gpus
        return (
            f"{self.file} says launch.gpus: 0, which trains on the CPU; train on the GPU with: "
            f"launcher run {self.key} --set launch.gpus={gpus}",
        )

    @property
    def image(self) -> str:
        """The image of the run's container or pod, and why it was chosen."""
        launch = self.fit.experiment.launch
        gpus = int(self.fit.machine.cuda) if launch.gpus == "auto" else launch.gpus
        return described(variant_of(gpus), launch.image)

    def json(self) -> dict[str, Any]:
        products = {"node_selector": {PRODUCT: list(self.products)}} if self.products else {}
        more = {"missing_data": self.missing, "recipes": list(self.recipes)}
        told = {name: value for name, value in more.items() if value}
        return {"key": self.key, "sizes_from": self.sizes_from, "image": self.image, **self.fit.json(), **products, **told}


@dataclass(frozen=True)
class Wanted:
    """What to plan for instead of this machine and ``launch``. None: unchanged.

    ``gpu``: a name. ``gpu_memory``: a size such as ``24GiB``. ``model_config``: a file with the model's sizes.
    """

    gpu: str | None = None
    gpu_memory: str | None = None
    gpus: int | None = None
    nodes: int | None = None
    parallelism: str | None = None
    model_config: Path | None = None

    @property
    def card(self) -> Gpu | None:
        """The requested GPU. Raises UsageError if it is unknown, or given twice."""
        if self.gpu is not None and self.gpu_memory is not None:
            raise UsageError("--gpu and --gpu-memory exclude each other")
        if self.gpu is not None:
            return find_gpu(self.gpu)
        return None if self.gpu_memory is None else Gpu(f"GPU with {self.gpu_memory}", parse_memory(self.gpu_memory), None)

    def changed(self, experiment: Experiment) -> Experiment:
        gpus = 1 if self.gpus is None and self.card is not None and experiment.launch.gpus == 0 else self.gpus
        given = {"gpus": gpus, "nodes": self.nodes, "parallelism": self.parallelism}
        updates = {name: value for name, value in given.items() if value is not None}
        return experiment.model_copy(update={"launch": experiment.launch.model_copy(update=updates)}) if updates else experiment


def plan_for(
    name: str,
    wanted: Wanted,
    *,
    root: Path = Path(),
    file: Path | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Planned:
    """What the experiment ``name`` needs. Reads its data and its model's ``config.json``; needs neither torch nor weights.

    ``say``: receives progress lines. Raises what ``load``, ``read_pairs`` and ``find_model_config`` raise, and UsageError for
    an unknown GPU.
    """
    caller = read_env(root)
    loaded = paired_loaded(load(name, root=root, file=file, overrides=overrides), root, caller)
    card = wanted.card
    with loaded.placed():
        changed = wanted.changed(loaded.experiment)
        model, storage = changed.model_name, changed.storage_config
        sizes, where = find_model_config(model, root, caller, wanted.model_config, storage=storage)
        pairs = _pairs(changed, Reading(root, caller, say=say))
        products = products_of(card.name) if card is not None else ()
        missing = changed.datasets_path if isinstance(pairs, Work) else None
        found = fit(changed, sizes, pairs, card, caller)
        others = tuple(fitting(found)) if found.fits is False else ()
        was_on_cpu = loaded.experiment.launch.gpus == 0 and changed.launch.gpus != 0
        return Planned(loaded.key, loaded.file, where, found, products, missing, others, was_on_cpu)


def _pairs(experiment: Experiment, reading: Reading) -> Pairs | Work:
    """The data, or an assumption if their folder does not exist yet. A folder with a similar name counts as a typing mistake."""
    try:
        return read_pairs(experiment, reading)
    except DataError as error:
        path = experiment.datasets_path
        is_missing = path is not None and "://" not in path and not (reading.root / expanded(path)).exists()
        if not is_missing or error.mistakes[0].hint is not None:
            raise
        return full_work(experiment)


def said_before_run(experiment: Experiment, pairs: Pairs, root: Path, caller: Mapping[str, str]) -> dict[str, str]:
    """Label -> fact: memory and time on this machine, or why they are unknown. No network access."""
    try:
        config, _ = find_model_config(experiment.model_name, root, caller, network=False)
    except ExperimentError as error:
        return _no_sizes(error)
    found = fit(experiment, config, pairs, None, caller, changes=False)
    return {"memory": found.verdict + _hint(found), "time": found.time, **found.copies}


def said_before_submit(experiment: Experiment, pairs: Pairs, root: Path, caller: Mapping[str, str]) -> dict[str, str]:
    """Label -> fact: memory on a cluster's GPUs, empty for a run without GPUs. No network access.

    Whether it fits is known only if the node selector names the GPU; otherwise the memory that a GPU needs.
    """
    launch = experiment.launch
    if launch.gpus == 0 and experiment.checkpoint_to is None:
        return {}
    try:
        config, _ = find_model_config(experiment.model_name, root, caller, network=False)
    except ExperimentError as error:
        return {} if launch.gpus == 0 else _no_sizes(error)
    if launch.gpus == 0:
        return copies_of(
            experiment, config, estimate(experiment, config, counted_work(experiment, pairs), Machine(1, cuda=False))
        )
    gpu = selected_gpu(experiment)
    if gpu is not None:
        found = fit(experiment, config, pairs, gpu, caller, changes=False)
        return {"memory": found.verdict_on(gpu.name) + _hint(found), **found.copies}
    count = launch.gpus if isinstance(launch.gpus, int) else 1
    work, machine = counted_work(experiment, pairs), Machine(count * launch.nodes, sharing(experiment))
    guess = estimate(experiment, config, work, machine)
    total = guess.total
    less = ""
    if experiment.hyperparameters.use_gradient_checkpointing == "auto":
        least = estimate(experiment, config, work, machine, recompute=True).total
        less = f", or {gib(least)} GiB with gradient checkpointing" if least < total else ""
    unknown = f"the cluster's GPUs are unknown (name one in launch.kubernetes.node_selector: {PRODUCT})"
    return {"memory": f"needs at least {gib(total)} GiB per GPU{less}; {unknown}", **copies_of(experiment, config, guess)}


def _no_sizes(error: ExperimentError) -> dict[str, str]:
    mistake = error.mistakes[0]
    return {"memory": f"unknown: {mistake.where}: {mistake.what}; `launcher plan` shows more"}


def _hint(found: Fit) -> str:
    return "" if found.fits is not False else _HINT
