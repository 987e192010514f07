"""The GPUs of this machine, as nvidia-smi reports them."""

from __future__ import annotations

from collections.abc import Mapping

from .gpus import MIB, Gpu, gpu_there


def gpu_here(caller: Mapping[str, str]) -> tuple[Gpu | None, int]:
    """(the smallest GPU of this machine, number of GPUs), as nvidia-smi reports them; (None, 0) without one."""
    import subprocess

    from ...backends.host import gpus_there

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
