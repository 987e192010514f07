"""Topology: how many ranks a run has, on which nodes, and their parallelism. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from ..errors import UsageError

# Seconds that nodes wait for each other: another node may still be pulling its image.
RENDEZVOUS: Final = 1800
PORT: Final = 29500


@dataclass(frozen=True)
class Parallelism:
    """``ddp`` (each rank holds the whole model), or a DeepSpeed configuration by name."""

    name: str = "ddp"
    deepspeed: Mapping[str, Any] | None = None
    why: str | None = None  # why ``auto`` chose it

    @property
    def stage(self) -> int:
        """What ZeRO shards over the ranks: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights."""
        return 0 if self.deepspeed is None else int(self.deepspeed["zero_optimization"]["stage"])


DDP: Final = Parallelism()


@dataclass(frozen=True)
class Topology:
    """``nodes × nproc`` ranks. ``gpus``: per node, 0 for training on the CPU."""

    gpus: int = 0
    nodes: int = 1
    nproc: int = 1
    parallelism: Parallelism = field(default=DDP)

    @property
    def world(self) -> int:
        return self.nodes * self.nproc

    @property
    def devices(self) -> str:
        """The devices in words."""
        if self.gpus:
            what = f"{self.gpus} GPU{'s' * (self.gpus > 1)}"
        else:
            what = "the CPU" if self.nproc == 1 else f"{self.nproc} processes on the CPU"
        return f"{self.nodes} nodes × {what}" if self.nodes > 1 else what

    def environment(self, deepspeed_file: str) -> dict[str, str]:
        """Environment variables for the entrypoint, accelerate and DeepSpeed. ``deepspeed_file``: as the ranks see it."""
        env = {"DPO_NNODES": str(self.nodes), "DPO_NPROC": str(self.nproc)}
        if self.gpus == 0:
            env |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        if self.gpus == 0 and self.parallelism.deepspeed is None:
            env["ACCELERATE_USE_CPU"] = "true"  # with it accelerate ignores DeepSpeed; without it, too, it finds no GPU
        if self.parallelism.deepspeed is not None:
            env |= {
                "ACCELERATE_USE_DEEPSPEED": "true",
                "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(self.parallelism.stage),
                "ACCELERATE_DEEPSPEED_CONFIG_FILE": deepspeed_file,
            }
        return env


@dataclass(frozen=True)
class Node:
    """This node's rank, and the address of the first node; ``address`` is None for a run on one node."""

    rank: int = 0
    address: str | None = None
    port: int = PORT

    @classmethod
    def of(cls, environment: Mapping[str, str], nodes: int) -> Node:
        """From NODE_RANK (or Kubernetes' JOB_COMPLETION_INDEX), MASTER_ADDR and MASTER_PORT.

        Raises UsageError if they are missing or invalid and ``nodes`` is more than one.
        """
        if nodes == 1:
            return cls()
        rank = environment.get("NODE_RANK", environment.get("JOB_COMPLETION_INDEX", ""))
        if not rank.isdecimal() or int(rank) >= nodes:
            what = f"a run on {nodes} nodes needs NODE_RANK from 0 to {nodes - 1}, not {rank or 'unset'}"
            raise UsageError(f"{what} (0 is the node of MASTER_ADDR)")
        address, port = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", str(PORT))
        if not address:
            raise UsageError(f"a run on {nodes} nodes needs MASTER_ADDR, the address of the first node for the others")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(f"MASTER_PORT must be a port, not {port!r}")
        return cls(int(rank), address, int(port))

    @property
    def environment(self) -> Mapping[str, str]:
        if self.address is None:
            return MappingProxyType({})
        return MappingProxyType({"NODE_RANK": str(self.rank), "MASTER_ADDR": self.address, "MASTER_PORT": str(self.port)})


def torchrun(nodes: int, nproc: int, node: Node, port: int | str) -> list[str]:
    """Arguments of ``python -m torch.distributed.run``. ``port``: for a run on one node."""
    options = [f"--nnodes={nodes}", f"--nproc-per-node={nproc}"]
    if node.address is None:
        return [*options, "--master-addr=127.0.0.1", f"--master-port={port}", "--max-restarts=0"]
    return [
        *options,
        f"--node-rank={node.rank}",
        f"--master-addr={node.address}",
        f"--master-port={node.port}",
        f"--rdzv-conf=timeout={RENDEZVOUS},read_timeout={RENDEZVOUS}",
        "--max-restarts=0",
    ]
