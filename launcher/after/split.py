"""Tensor parallelism of a server: whether vLLM can divide the model among the GPUs, and whether this machine's GPUs can hold
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from ..errors import LauncherError, UsageError, Warned
from ..job.target import Target
from ..planning.machines.here import gpu_here
from ..planning.weights.held import Held
from ..planning.weights.held_here import held_here
from ..planning.weights.split import possible, serve, uneven
from .beside import How


def check_split(target: Target, how: How, env: Mapping[str, str]) -> list[Warned]:
    """Warnings about the GPUs; none if the model's sizes are not on this disk.

    Raises UsageError if vLLM cannot divide the model among ``how.gpus``, if this machine has fewer GPUs, or for MIG slices.
    """
    resource = target.settings.launch.kubernetes.gpu_resource
    if how.backend == "kubernetes" and how.gpus > 1 and "/mig-" in resource:
        raise UsageError(f"--tensor-parallel-size {how.gpus}: vLLM cannot spread a model over slices of a GPU ({resource})")
    held = _sizes(target, env)
    if held is not None and (what := uneven(held.config, how.gpus)) is not None:
        others = ", ".join(map(str, possible(held.config)))
        hint = f"choose one of {others}" if others else "serve it on one GPU"
        raise UsageError(
            f"--tensor-parallel-size {how.gpus}: vLLM cannot divide {target.base}, which has {what}, among {how.gpus} GPUs\n"
            f"    hint:     {hint}"
        )
    return [] if how.backend == "kubernetes" else list(_here(held, how, env))  # a cluster's GPUs are unknown here


def _here(held: Held | None, how: How, env: Mapping[str, str]) -> Iterator[Warned]:
    gpu, count = gpu_here(env)
    if 0 < count < how.gpus:
        raise UsageError(f"--tensor-parallel-size {how.gpus}: this machine has {count} GPU{'' if count == 1 else 's'}")
    if held is None or gpu is None:
        return
    use = serve(held.on(gpu), how.gpus, how.length)
    if use.fits is False:
        hint = "" if use.hint is None else f"; {use.hint}"
        yield Warned(f"the model does not fit: {use.memory}{hint}")


def _sizes(target: Target, env: Mapping[str, str]) -> Held | None:
    with suppress(LauncherError):
        return held_here(target, env)[0]
    return None
