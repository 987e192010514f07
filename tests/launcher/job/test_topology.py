"""How many ranks there are, where they are, and what each of the programs that start them is told."""

from __future__ import annotations

import pytest

from launcher.errors import UsageError
from launcher.job.topology import Node, Parallelism, Topology, torchrun

ZERO2 = Parallelism("zero2", {"zero_optimization": {"stage": 2}})


def test_one_node_needs_no_address() -> None:
    assert Node.of({"NODE_RANK": "3", "MASTER_ADDR": "elsewhere"}, 1) == Node()
    assert torchrun(1, 8, Node(), 4711) == [
        "--nnodes=1",
        "--nproc-per-node=8",
        "--master-addr=127.0.0.1",
        "--master-port=4711",
        "--max-restarts=0",
    ]


@pytest.mark.parametrize("name", ["NODE_RANK", "JOB_COMPLETION_INDEX"])
def test_a_node_of_several_is_told_by_its_environment(name: str) -> None:
    node = Node.of({name: "1", "MASTER_ADDR": "run-0.run", "MASTER_PORT": "29501"}, 2)
    assert node == Node(1, "run-0.run", 29501)
    assert torchrun(2, 4, node, "unused") == [
        "--nnodes=2",
        "--nproc-per-node=4",
        "--node-rank=1",
        "--master-addr=run-0.run",
        "--master-port=29501",
        "--rdzv-conf=timeout=1800,read_timeout=1800",
        "--max-restarts=0",
    ]
    assert dict(node.environment) == {"NODE_RANK": "1", "MASTER_ADDR": "run-0.run", "MASTER_PORT": "29501"}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "needs NODE_RANK from 0 to 1, not unset"),
        ({"NODE_RANK": "2", "MASTER_ADDR": "a"}, "needs NODE_RANK from 0 to 1, not 2"),
        ({"NODE_RANK": "0"}, "needs MASTER_ADDR"),
        ({"NODE_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "70000"}, "MASTER_PORT must be a port, not '70000'"),
    ],
)
def test_what_a_node_was_not_told_is_said(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Node.of(environment, 2)


def test_every_program_is_told_the_same_of_one_topology() -> None:
    assert Topology(gpus=8, nodes=2, nproc=8, parallelism=ZERO2).environment("/run/deepspeed.json") == {
        "DPO_NNODES": "2",
        "DPO_NPROC": "8",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": "/run/deepspeed.json",
    }
    assert Topology(nproc=2).environment("unused") == {
        "DPO_NNODES": "1",
        "DPO_NPROC": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        "ACCELERATE_USE_CPU": "true",
    }


@pytest.mark.parametrize(
    ("topology", "words"),
    [
        (Topology(), "the CPU"),
        (Topology(nproc=2), "2 processes on the CPU"),
        (Topology(gpus=1, nproc=1), "1 GPU"),
        (Topology(gpus=8, nproc=8, nodes=4), "4 nodes × 8 GPUs"),
    ],
)
def test_devices_are_said_in_words(topology: Topology, words: str) -> None:
    assert topology.devices == words
