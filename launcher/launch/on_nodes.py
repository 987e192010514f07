"""Settings of a cluster run that come from the plan or the nodes: its deadline, and nodes with a named GPU."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ExperimentError

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..job.job import Job
    from .rendered import Choice

_MARGIN: Final = 3.0  # factor on the plan's time, which assumes no pauses
_START: Final = 3600  # seconds until training runs (autoscaled node, image, model), again at each restart


def deadline(job: Job, pairs: Pairs | None, caller: Mapping[str, str]) -> int | None:
    """Seconds for ``active_deadline: auto``; None for another setting, or if the plan cannot estimate the time: it needs the
    pairs, the model's sizes and the GPU in the node selector.
    """
    from ..planning.fit import fit
    from ..planning.parallelism import selected_gpu
    from ..planning.sizes.config_file import find_model_config

    e = job.experiment
    if e.launch.kubernetes.active_deadline != "auto" or pairs is None or not job.gpus:
        return None
    gpu = selected_gpu(e)
    if gpu is None:
        return None
    try:
        config, _ = find_model_config(e.model_name, Path.cwd(), caller, network=False)
    except ExperimentError:
        return None
    seconds = fit(e, config, pairs, gpu, caller, changes=False).estimate.seconds
    return None if seconds is None else math.ceil(_MARGIN * seconds) + _START * (1 + e.launch.max_restarts)


def read_deadline(job: Job, caller: Mapping[str, str]) -> int | None:
    """The same before the pairs are read. Spreadsheets, buckets and the hub are not read for it."""
    from ..backends.kubernetes.render.placement import travels
    from ..data.pairs import read_pairs
    from ..data.tables.reading import Reading

    e = job.experiment
    is_wanted = e.launch.kubernetes.active_deadline == "auto" and job.gpus
    if not is_wanted or not travels(e.datasets_path, e):
        return None
    return deadline(job, read_pairs(e, Reading(Path.cwd(), caller)), caller)


def with_gpu(choice: Choice, name: str | None) -> Choice:
    """``choice`` with a node selector for the GPU called ``name``.

    Raises UsageError if no node has it, or if the name is ambiguous.
    """
    if name is None:
        return choice
    from ..experiment.files import load, read_env
    from ..planning.machines.products import PRODUCT, product_named

    settings = load(choice.experiment, root=Path(), file=choice.file, overrides=choice.overrides).experiment.launch.kubernetes
    product = product_named(name, _products(read_env(Path.cwd()), settings.namespace))
    selector = json.dumps({**settings.node_selector, PRODUCT: product})
    return replace(choice, overrides=(*choice.overrides, f"launch.kubernetes.node_selector={selector}"))


def _products(caller: Mapping[str, str], namespace: str | None) -> dict[str, int] | None:
    """GPU label -> number of nodes; None if the caller may not list nodes."""
    from ..backends.kubernetes.api.errors import ApiError
    from ..backends.status.finding import cluster_of
    from ..planning.machines.products import PRODUCT

    where, _ = cluster_of(caller, namespace)
    try:
        nodes = list(where.cluster.list("/api/v1/nodes"))
    except ApiError as error:
        if error.status == 403:
            return None
        raise
    labels = (one["metadata"].get("labels") or {} for one in nodes)
    return dict(Counter(one[PRODUCT] for one in labels if PRODUCT in one))
