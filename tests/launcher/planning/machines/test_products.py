"""Names of GPUs, and what nodes call them."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.experiment.schema import Experiment
from launcher.planning.machines.gpus import GPUS, find_gpu
from launcher.planning.machines.products import product_named, products_of
from launcher.planning.parallelism import selected_gpu

A100 = {"NVIDIA-A100-SXM4-40GB": 4, "NVIDIA-A100-SXM4-80GB": 2, "NVIDIA-L4": 1, "NVIDIA-GeForce-RTX-4070-Ti-SUPER": 1}


def test_a_product_is_read_back_as_the_gpu_that_it_is() -> None:
    for gpu in GPUS:
        for product in products_of(gpu.name):
            assert find_gpu(product).name == gpu.name
    assert products_of("RTX 4070 Ti SUPER") == ("NVIDIA-GeForce-RTX-4070-Ti-SUPER",)
    assert products_of("MI300X") == ()


@pytest.mark.parametrize(
    ("name", "there", "product"),
    [
        ("A100 80GB", A100, "NVIDIA-A100-SXM4-80GB"),
        ("a100-sxm4-40gb", A100, "NVIDIA-A100-SXM4-40GB"),
        ("NVIDIA-A100-SXM4-40GB", A100, "NVIDIA-A100-SXM4-40GB"),
        ("L4", A100, "NVIDIA-L4"),
        ("rtx 4070", A100, "NVIDIA-GeForce-RTX-4070-Ti-SUPER"),
        ("L4", None, "NVIDIA-L4"),
        ("RTX 4070 Ti", None, "NVIDIA-GeForce-RTX-4070-Ti"),
        ("New-Card-9", {"New-Card-9": 1}, "New-Card-9"),
    ],
)
def test_a_name_means_the_one_product_that_has_all_its_words(name: str, there: dict[str, int] | None, product: str) -> None:
    assert product_named(name, there) == product


@pytest.mark.parametrize(
    ("name", "there", "said"),
    [
        ("A100", A100, r"means several GPUs: NVIDIA-A100-SXM4-40GB \(4 nodes\), NVIDIA-A100-SXM4-80GB \(2 nodes\); name one"),
        (
            "H100",
            A100,
            r"no node of the cluster has it; the nodes have: NVIDIA-A100-SXM4-40GB \(4 nodes\), .*NVIDIA-L4 \(1 node\)",
        ),
        ("H100", {}, r"the nodes have: none has the label nvidia\.com/gpu\.product"),
        ("A100 80GB", None, r"means several GPUs: NVIDIA-A100-SXM4-80GB, NVIDIA-A100-80GB-PCIe; name one of them"),
        ("MI300X", None, r"no label is known for it; set launch\.kubernetes\.node_selector"),
        ("H1000", None, r"unknown GPU 'H1000'"),
    ],
)
def test_what_no_node_has_and_what_several_are_is_told(name: str, there: dict[str, int] | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        product_named(name, there)


@pytest.mark.parametrize(
    ("settings", "gib"),
    [
        ({"node_selector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}, 22.49),
        ({"gpu_resource": "nvidia.com/mig-3g.40gb"}, 35.2),
        ({"gpu_resource": "nvidia.com/mig-1g.5gb.me", "node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}}, 4.4),
    ],
)
def test_the_plan_knows_the_memory_of_a_slice(settings: dict[str, Any], gib: float) -> None:
    fields = {"model_name": "a/b", "datasets_path": "d", "launch": {"gpus": 1, "kubernetes": settings}}
    gpu = selected_gpu(Experiment.parse(fields))
    assert gpu is not None
    assert gpu.memory / 2**30 == pytest.approx(gib, abs=0.01)
