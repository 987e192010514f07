"""This rank's GPU use and peak tensor memory, for a log line."""

from __future__ import annotations

from contextlib import suppress

import torch


def gpu_use() -> dict[str, float]:
    """``gpu_use``: percent of the driver's last sampling period (up to a second) in which a kernel ran; absent without the
    package nvidia-ml-py, or where NVML refuses. ``memory_gib``: the most that tensors have taken so far. Empty without CUDA.
    """
    if not torch.cuda.is_available():
        return {}
    found = {"memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3)}
    with suppress(Exception):  # NVML has many errors, none of which is worth a run: MIG, no permission, no package
        found["gpu_use"] = float(torch.cuda.utilization())
    return found
