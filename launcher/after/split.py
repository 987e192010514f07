"""Over how many GPUs a server is spread: whether vLLM can divide the model so, and whether the GPUs of this machine hold it."""

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
    """What the reader must know of the GPUs; nothing where the model's sizes are not on this disk.

    Raises UsageError where vLLM cannot divide the model, or there are fewer GPUs, or slices, in place of as many GPUs.
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
    return [] if how.backend == "kubernetes" else list(_here(held, how, env))  # whose GPUs nobody knows here


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
