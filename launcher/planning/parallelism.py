"""The parallelism of a run: as the experiment sets it, or the simplest that fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExperimentError, UsageError
from ..experiment.schema import Experiment
from ..job.job import topology_of
from ..job.presets import read_parallelism
from ..job.topology import DDP, Parallelism
from .machines.products import PRODUCT

if TYPE_CHECKING:
    from .machines.gpus import Gpu


def choose_parallelism(
    experiment: Experiment, root: Path, gpus_there: int, caller: Mapping[str, str], *, is_here: bool = True
) -> Parallelism:
    """Raises ExperimentError for an unknown name. ``auto`` uses the GPU and the model's sizes, without network access.

    ``is_here``: the run is on this machine. A cluster's GPU is known only if the node selector names it.
    """
    name = experiment.launch.parallelism
    if name != "auto":
        return read_parallelism(name, root)
    topology = topology_of(experiment.launch, gpus_there)
    if topology.gpus == 0 or topology.world == 1:
        return DDP
    from .machines.here import gpu_here
    from .remedies import simplest_that_fits
    from .sizes.config_file import find_model_config

    gpu = gpu_here(caller)[0] if is_here else selected_gpu(experiment)
    if gpu is None:
        hint = "" if is_here else f" (name the GPU in launch.kubernetes.node_selector: {PRODUCT})"
        return replace(DDP, why=f"parallelism: ddp, because the GPU's memory is unknown{hint}")
    try:
        config, _ = find_model_config(experiment.model_name, root, caller, network=False)
    except ExperimentError:
        return replace(DDP, why="parallelism: ddp, because the model's sizes are unknown until it is downloaded")
    longest = experiment.hyperparameters.max_seq_length
    chosen, why = simplest_that_fits(experiment, config, longest=longest, world=topology.world, gpu_bytes=gpu.memory)
    return read_parallelism(chosen, root, why)


def selected_gpu(experiment: Experiment) -> Gpu | None:
    """The GPU or GPU slice that the settings name: by its resource, else by the label of NVIDIA's GPU feature discovery."""
    from .machines.gpus import find_gpu

    settings = experiment.launch.kubernetes
    name = settings.gpu_resource if "/mig-" in settings.gpu_resource else settings.node_selector.get(PRODUCT)
    if name is None:
        return None
    try:
        return find_gpu(name)
    except UsageError:
        return None
