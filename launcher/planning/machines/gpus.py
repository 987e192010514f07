"""Gpu: memory and speed of GPUs, by the names that people type and nvidia-smi prints."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from ...errors import UsageError, nearest

MIB: Final = 2**20


@dataclass(frozen=True)
class Gpu:
    """``memory`` in bytes; ``flops``: dense matrix products a second in 16 bits, summed in fp32; ``bandwidth``: bytes that its
    memory gives in a second. None where unknown.
    """

    name: str
    memory: int
    flops: float | None
    bf16: bool = True
    bandwidth: float | None = None


# name, MiB as nvidia-smi prints it, dense 16-bit tensor TFLOP/s with fp32 sums (no sparsity), GB/s of memory bandwidth, bf16:
# NVIDIA's and AMD's data sheets and architecture papers. A GeForce card sums in fp32 at half the rate that its data sheet shows
# in large print.
_TABLE: Final = (
    ("RTX 2080 Ti", 11264, 53.8, 616, False),
    ("RTX 3060", 12288, 25.5, 360, True),
    ("RTX 3060 Ti", 8192, 32.4, 448, True),
    ("RTX 3070", 8192, 40.6, 448, True),
    ("RTX 3070 Ti", 8192, 43.5, 608, True),
    ("RTX 3080", 10240, 59.5, 760, True),
    ("RTX 3080 Ti", 12288, 68.2, 912, True),
    ("RTX 3090", 24576, 71.2, 936, True),
    ("RTX 3090 Ti", 24564, 80.0, 1008, True),
    ("RTX 4060", 8188, 30.2, 272, True),
    ("RTX 4060 Ti", 8188, 44.1, 288, True),
    ("RTX 4060 Ti 16GB", 16380, 44.1, 288, True),
    ("RTX 4070", 12282, 58.3, 504, True),
    ("RTX 4070 SUPER", 12282, 71.0, 504, True),
    ("RTX 4070 Ti", 12282, 80.2, 504, True),
    ("RTX 4070 Ti SUPER", 16376, 88.2, 672, True),
    ("RTX 4080", 16376, 97.5, 717, True),
    ("RTX 4080 SUPER", 16376, 104.4, 736, True),
    ("RTX 4090", 24564, 165.2, 1008, True),
    ("RTX 5060 Ti 16GB", 16311, 47.4, 448, True),
    ("RTX 5070", 12227, 61.7, 672, True),
    ("RTX 5070 Ti", 16303, 87.9, 896, True),
    ("RTX 5080", 16303, 112.6, 960, True),
    ("RTX 5090", 32607, 209.5, 1792, True),
    ("RTX A4000", 16376, 76.7, 448, True),
    ("RTX A5000", 24564, 111.1, 768, True),
    ("RTX A6000", 49140, 154.8, 768, True),
    ("RTX 6000 Ada Generation", 49140, 364.2, 960, True),
    ("RTX PRO 6000 Blackwell", 97887, 503.8, 1792, True),
    ("T4", 15360, 65.0, 300, False),
    ("V100 16GB", 16384, 125.0, 900, False),
    ("V100 32GB", 32768, 125.0, 900, False),
    ("A10", 23028, 125.0, 600, True),
    ("A10G", 23028, 70.0, 600, True),
    ("A30", 24576, 165.0, 933, True),
    ("A40", 46068, 149.7, 696, True),
    ("A100 40GB", 40960, 312.0, 1555, True),
    ("A100 80GB", 81920, 312.0, 2039, True),
    ("L4", 23034, 121.0, 300, True),
    ("L40", 46068, 181.0, 864, True),
    ("L40S", 46068, 362.0, 864, True),
    ("H100 80GB HBM3", 81559, 989.4, 3350, True),
    ("H100 PCIe", 81559, 756.5, 2000, True),
    ("H100 NVL", 95830, 835.5, 3900, True),
    ("H200", 143771, 989.4, 4800, True),
    ("B200", 183359, 2250.0, 8000, True),
    ("MI300X", 196592, 1307.4, 5300, True),
)
GPUS: Final = tuple(Gpu(name, mib * MIB, tflops * 1e12, bf16, gb * 1e9) for name, mib, tflops, gb, bf16 in _TABLE)
# Other names; a bare name means the card that is sold most.
_ALIASES: Final = {
    "h100": "H100 80GB HBM3",
    "h100 sxm": "H100 80GB HBM3",
    "h100 sxm5": "H100 80GB HBM3",
    "h200 sxm": "H200",
    "a100": "A100 40GB",
    "v100": "V100 16GB",
    "rtx 6000 ada": "RTX 6000 Ada Generation",
    "a4000": "RTX A4000",
    "a5000": "RTX A5000",
    "a6000": "RTX A6000",
    "l40s": "L40S",
}
_MAKERS: Final = re.compile(r"\b(nvidia|amd|geforce|tesla|instinct|quadro|graphics|workstation|edition|server)\b")
_FORM: Final = re.compile(r"\b(sxm\d?|pcie|hbm\d\w?)\b")
# A part of a GPU (MIG), as the resource nvidia.com/mig-3g.40gb or the profile 3g.40gb. It has less than its name says: 16.0 of
# 18 GiB (1g.18gb of an H200) up to 39.5 of 40 (3g.40gb of an H100).
_SLICE: Final = re.compile(r"(nvidia\.com/)?(mig[- ])?(?P<slice>\dg\.(?P<gigabytes>\d+)gb)(\.me)?")
_OF_SLICE: Final = 0.88
_MEMORY: Final = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmgt]i?)?b?", re.IGNORECASE)


def find_gpu(name: str) -> Gpu:
    """The GPU that a person or nvidia-smi calls ``name``; raises UsageError with the nearest name for an unknown one."""
    found = _find(name)
    if found is not None:
        return found
    spelt = {_spelt(gpu.name): gpu.name for gpu in GPUS}
    hint = nearest(_spelt(name), spelt) or nearest(f"rtx {_spelt(name)}", spelt)
    known = next((called for short, called in spelt.items() if hint is not None and repr(short) in hint), None)
    told = f"did you mean {known!r}?" if known else f"use one of {', '.join(gpu.name for gpu in GPUS)}"
    raise UsageError(f"unknown GPU {name!r}: {told} (or give its memory: --gpu-memory 24GiB)")


def words_of(name: str) -> set[str]:
    """The words by which a GPU is told from others: ``NVIDIA-A100-SXM4-80GB`` -> a100, sxm4, 80gb."""
    return set(_spelt(name).split())


def gpu_there(name: str, memory: int) -> Gpu:
    """A GPU of this machine: ``memory`` in bytes as nvidia-smi reports it; its speed where the name is known."""
    known = _find(name)
    spelt = re.sub(r"^NVIDIA (GeForce )?", "", name.strip())
    return Gpu(spelt, memory, None) if known is None else replace(known, name=spelt, memory=memory)


def _find(name: str) -> Gpu | None:
    if (slice_ := _SLICE.fullmatch(name.strip().lower())) is not None:
        return Gpu(f"MIG {slice_['slice']}", int(_OF_SLICE * int(slice_["gigabytes"]) * 1024) * MIB, None)
    spelt = _spelt(name)
    loose = " ".join(_FORM.sub(" ", spelt).split())
    alias = _ALIASES.get(spelt) or _ALIASES.get(loose)
    for wanted in (spelt, _spelt(alias) if alias else spelt, loose):
        found = next((gpu for gpu in GPUS if wanted in (_spelt(gpu.name), _spelt(gpu.name).removeprefix("rtx "))), None)
        if found is not None:
            return found
    return None


def _spelt(name: str) -> str:
    """``NVIDIA A100-SXM4-80GB`` and ``a100 sxm4 80 gb`` are one name, as are ``RTX4090`` and ``rtx 4090``."""
    text = re.sub(r"[-_/()]", " ", name.lower())
    text = re.sub(r"(\d)\s*gi?b\b", r"\1gb", _MAKERS.sub(" ", text))
    text = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", text)
    return " ".join(text.split())


def parse_memory(text: str) -> int:
    """``24GiB``, ``24G``, ``24 GB`` or a number of bytes, in bytes; raises UsageError for anything else."""
    found = _MEMORY.fullmatch(text.strip())
    if found is None or float(found["number"]) == 0:
        raise UsageError(f"--gpu-memory {text!r}: expected a size such as 24GiB")
    unit = (found["unit"] or "").lower()
    scale = 1 if not unit else (1024 if unit.endswith("i") else 1000) ** ("kmgt".index(unit[0]) + 1)
    return int(float(found["number"]) * scale)
