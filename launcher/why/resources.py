"""Names of node resources. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-3g.40gb, amd.com/gpu, gpu.intel.com/xe …
_GPU: Final = re.compile(r".*gpu.*/.*|.*/(.*gpu.*|mig-.*)")


def is_gpu(resource: str) -> bool:
    """Whether a node resource is GPUs or slices of them."""
    return _GPU.fullmatch(resource) is not None


def gpus_in(resources: Mapping[str, Any]) -> int:
    """The number of GPUs and slices in ``allocatable``, ``limits`` …"""
    return sum(int(count or 0) for name, count in resources.items() if is_gpu(name))
