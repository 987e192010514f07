"""The label by which nodes tell their GPU (NVIDIA's GPU feature discovery), and which of its values a name means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ...errors import UsageError
from .gpus import GPUS, find_gpu, words_of

PRODUCT: Final = "nvidia.com/gpu.product"
# GPU -> the label's values: the name of the driver with '-' for spaces. A GeForce card's follows from its name.
_PRODUCTS: Final[Mapping[str, tuple[str, ...]]] = {
    "T4": ("Tesla-T4",),
    "V100 16GB": ("Tesla-V100-SXM2-16GB", "Tesla-V100-PCIE-16GB"),
    "V100 32GB": ("Tesla-V100-SXM2-32GB", "Tesla-V100-PCIE-32GB"),
    "A10": ("NVIDIA-A10",),
    "A10G": ("NVIDIA-A10G",),
    "A30": ("NVIDIA-A30",),
    "A40": ("NVIDIA-A40",),
    "A100 40GB": ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"),
    "A100 80GB": ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"),
    "L4": ("NVIDIA-L4",),
    "L40": ("NVIDIA-L40",),
    "L40S": ("NVIDIA-L40S",),
    "H100 80GB HBM3": ("NVIDIA-H100-80GB-HBM3",),
    "H100 PCIe": ("NVIDIA-H100-PCIe",),
    "H100 NVL": ("NVIDIA-H100-NVL",),
    "H200": ("NVIDIA-H200",),
    "B200": ("NVIDIA-B200",),
    "RTX A4000": ("NVIDIA-RTX-A4000",),
    "RTX A5000": ("NVIDIA-RTX-A5000",),
    "RTX A6000": ("NVIDIA-RTX-A6000",),
    "RTX 6000 Ada Generation": ("NVIDIA-RTX-6000-Ada-Generation",),
    "RTX PRO 6000 Blackwell": (
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
        "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition",
    ),
}


def products_of(gpu: str) -> tuple[str, ...]:
    """The label's values for a GPU of the table of GPUs; none where they are not known, as for another maker's."""
    if re.fullmatch(r"RTX \d{4}( Ti)?( SUPER)?", gpu):
        return (f"NVIDIA-GeForce-{gpu.replace(' ', '-')}",)
    return _PRODUCTS.get(gpu, ())


def product_named(name: str, there: Mapping[str, int] | None) -> str:
    """The label's value for the GPU that a person calls ``name``; ``there``: value -> how many nodes have it, None if the nodes
    may not be listed.

    Raises UsageError where none is meant, or several are.
    """
    known = [product for gpu in GPUS for product in products_of(gpu.name)]
    found = _meant(name, known if there is None else there)
    if len(found) == 1:
        return found[0]
    if found:
        told = ", ".join(one if there is None else f"{one} ({_nodes(there[one])})" for one in found)
        raise UsageError(f"--gpu {name!r} means several GPUs: {told}; name one of them")
    if there is None:
        find_gpu(name)
        raise UsageError(f"--gpu {name!r}: no label is known for it; set launch.kubernetes.node_selector")
    told = ", ".join(f"{one} ({_nodes(count)})" for one, count in there.items()) or f"none has the label {PRODUCT}"
    raise UsageError(f"--gpu {name!r}: no node of the cluster has it; the nodes have: {told}")


def _meant(name: str, products: Iterable[str]) -> list[str]:
    """The products that have every word of the name; one that has no other word goes first."""
    listed, words = list(products), words_of(name)
    if name in listed:
        return [name]
    found = [one for one in listed if words <= words_of(one)]
    same = [one for one in found if words == words_of(one)]
    return same or found


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"
