"""GPUs by the names that people type and nvidia-smi prints."""

from __future__ import annotations

import pytest

from launcher.errors import UsageError
from launcher.planning.machines.gpus import GPUS, find_gpu, gpu_there, parse_memory

GIB = 2**30


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("RTX 4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX 4070 Ti SUPER"),
        ("rtx 4060 ti 16 GB", "RTX 4060 Ti 16GB"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-32GB", "V100 32GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("a100", "A100 40GB"),
        ("NVIDIA H100 80GB HBM3", "H100 80GB HBM3"),
        ("h100", "H100 80GB HBM3"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada Generation"),
        ("RTX 6000 Ada", "RTX 6000 Ada Generation"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_a_gpu_is_found_by_whatever_it_is_called(typed: str, name: str):
    assert find_gpu(typed).name == name


def test_every_gpu_is_found_by_its_own_name():
    assert [find_gpu(gpu.name) for gpu in GPUS] == list(GPUS)


def test_an_unknown_gpu_is_answered_with_the_nearest():
    with pytest.raises(UsageError) as error:
        find_gpu("RTX 4091")
    told = "unknown GPU 'RTX 4091': did you mean 'RTX 4090'? (or give its memory: --gpu-memory 24GiB)"
    assert str(error.value) == told
    with pytest.raises(UsageError, match="use one of RTX 2080 Ti, RTX 3060"):
        find_gpu("abacus")


def test_a_card_of_this_machine_has_the_memory_it_says_and_the_speed_of_its_kind():
    here = gpu_there("NVIDIA GeForce RTX 3080", 12 * GIB)
    assert (here.name, here.memory, here.flops) == ("RTX 3080", 12 * GIB, 59.5e12)
    assert gpu_there("NVIDIA Abacus", GIB).flops is None


@pytest.mark.parametrize(
    ("text", "number"), [("24GiB", 24 * GIB), ("24 Gi", 24 * GIB), ("24GB", 24 * 10**9), ("0.5g", 5 * 10**8), ("1024", 1024)]
)
def test_sizes_are_read_as_they_are_written(text: str, number: int):
    assert parse_memory(text) == number


@pytest.mark.parametrize("text", ["", "much", "0GiB", "-1G", "24 GiB of it"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(UsageError, match="expected a size such as 24GiB"):
        parse_memory(text)
