"""Whether gradient checkpointing is needed: whether activations fit into the memory that the weights leave free."""

from __future__ import annotations

from typing import Any, Final

import torch

from launcher.errors import ExperimentError
from launcher.planning.activations import Numbers, kept_bytes
from launcher.planning.model_config import ModelConfig

SHARE: Final = 0.8  # of the free memory: the rest is for the head's tiles, fragmentation and the kernels' own buffers
STATE: Final = 16  # bytes a trained weight: the gradient and AdamW's two moments in float32, and the update's own copy
RANK: Final = 64  # of an adapter that has not been made yet; what it keeps is little beside its module's input


def free_bytes(gpu_memory_utilization: float) -> int:
    """Of this rank's GPU, below the ceiling that the experiment sets."""
    free, total = torch.cuda.mem_get_info()
    ours = torch.cuda.memory_reserved()
    return min(free, int(total * gpu_memory_utilization) - ours)


def activation_bytes(config: Any, tokens: int, bytes_per_number: int, *, full: bool = False) -> int | None:
    """Bytes that a decoder keeps of ``tokens`` for the backward pass; None where the configuration does not say its sizes.

    With ``full`` all weights are trained, else an adapter on every linear module. See launcher.planning.activations.
    """
    try:
        sizes = ModelConfig.parse(config.to_dict())
    except ExperimentError:
        return None
    targets = None if full else frozenset(linear.name for linear in sizes.linears)
    return kept_bytes(sizes, tokens, Numbers(4 if full else bytes_per_number, bytes_per_number), targets=targets, r=RANK)


def must_recompute(config: Any, *, tokens: int, bytes_per_number: int, trained: int, free: int) -> tuple[bool, str]:
    """(whether a micro-batch of ``tokens`` with ``trained`` weights needs it to fit into ``free`` bytes, the sentence).

    Weights that are quantised lie on the GPU already, so that ``free`` is less by them; others come to it later.
    """
    try:
        weights = ModelConfig.parse(config.to_dict()).parameters
    except ExperimentError:
        return True, "gradient checkpointing on: the model's configuration lacks the sizes to estimate its activations"
    full = trained >= weights
    activations = activation_bytes(config, tokens, bytes_per_number, full=full)
    assert activations is not None, "its sizes are known"
    is_there = getattr(config, "quantization_config", None) is not None
    to_come = 0 if is_there else weights * (4 if full else bytes_per_number)
    needed, room = activations + STATE * trained, SHARE * (free - to_come)
    verdict = "on" if needed > room else "off"
    return needed > room, (
        f"gradient checkpointing {verdict}: without it a micro-batch needs about {needed / 2**30:.1f} GiB, "
        f"{max(0.0, room) / 2**30:.1f} GiB are free"
    )
