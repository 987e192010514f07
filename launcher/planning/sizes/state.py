"""State: the bytes of one rank that stay from step to step: weights, gradients, the optimizer's state. Pure.

They follow what the trainer does: the dtypes of ``trainer.inputs.models.model``, the optimizer of ``trainer.inputs.arguments``,
ZeRO's divisions (Rajbhandari et al., arXiv 1910.02054).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...experiment.sections.hyperparameters import Hyperparameters
from .activations import Numbers
from .adapter import Adapter
from .machine import Machine, numbers_of
from .model_config import ModelConfig

NF4: Final = 0.5 + 1 / 64 + 4 / 64 / 256  # bytes a weight: 4 bits, a block's scale in 8, a block of scales' in 32
# Bytes of an optimizer's state for a weight in fp32; the paged ones move theirs to main memory only when GPU memory is short.
STATES: Final[Mapping[str, float]] = {
    "adamw_torch": 8, "adamw_torch_fused": 8, "adamw_anyprecision": 8, "paged_adamw_32bit": 8, "schedule_free_adamw": 8,
    "stable_adamw": 8, "schedule_free_radam": 8, "grokadamw": 12, "ademamix": 12, "paged_ademamix_32bit": 12,
    "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "adamw_torch_8bit": 2, "adamw_torch_4bit": 1,
    "ademamix_8bit": 3, "paged_ademamix_8bit": 3, "lion_32bit": 4, "paged_lion_32bit": 4, "lion_8bit": 1, "paged_lion_8bit": 1,
    "adagrad": 4, "rmsprop": 4, "rmsprop_bnb": 4, "rmsprop_bnb_32bit": 4, "rmsprop_bnb_8bit": 1,
    "sgd": 0, "schedule_free_sgd": 4, "adafactor": 0.01, "lomo": 0, "adalomo": 0.01,
}  # fmt: skip
FUSED: Final = "adamw_torch_fused"
_AWAY: Final = "offloaded to main memory"


def optimizer_of(name: str, *, cuda: bool, sharded: bool) -> str:
    """What ``optim: name`` runs: ``adamw_torch`` is fused into one kernel on a GPU, and a CPU has no optimizers in 8 bits.

    DeepSpeed (``sharded``) keeps the optimizer that it is given, as it may move its state to main memory.
    """
    if not cuda:
        return "adamw_torch" if "8bit" in name else name
    return FUSED if name == "adamw_torch" and not sharded else name


def _optimizer(h: Hyperparameters, machine: Machine) -> str:
    return optimizer_of(h.optim, cuda=machine.cuda, sharded=machine.stage > 0)


@dataclass(frozen=True)
class Part:
    """What takes ``size`` bytes, and why."""

    name: str
    size: int
    why: str


def state(h: Hyperparameters, config: ModelConfig, machine: Machine) -> tuple[list[Part], int]:
    """(the parts that stay from step to step, bytes of them that are offloaded to main memory)."""
    numbers, trained = numbers_of(h, machine), trained_weights(h, config)
    sharing, stage = machine.world, machine.stage
    own = numbers.stream if h.full_finetuning or stage else 4  # an adapter's weights are fp32
    weights = _base_bytes(h, config, numbers, machine)
    away: list[int] = []

    def share(size: float, needed: int, *, moved: bool) -> int:
        mine = int(size / sharing) if stage >= needed else int(size)
        if moved:
            away.append(mine)
        return 0 if moved else mine

    parts = [Part("weights", share(weights, 3, moved=machine.offloads and stage == 3), _weights_why(h, numbers, machine))]
    if h.full_finetuning and moves_reference(h):
        parts.append(Part("reference", share(weights, 3, moved=False), "a second copy of the model, computed in every step"))
    if not h.full_finetuning:
        parts.append(Part("adapter", share(trained * own, 3, moved=False), f"{trained:,} weights, {own} bytes each"))
    buckets = stage == 0 and sharing > 1
    parts.append(
        Part(
            "gradients",
            share(trained * own * (2 if buckets else 1), 2, moved=False),
            f"{own} bytes per trained weight" + (", and the same again in DDP's buckets" if buckets else ""),
        )
    )
    why = h.optim + (", fused" if _optimizer(h, machine) == FUSED != h.optim else "")
    why += ", plus ZeRO's fp32 copies of weights and gradients" if stage else ""
    parts.append(Part("optimizer", share(_optimizer_bytes(h, machine, trained, own), 1, moved=machine.offloads), why))
    if stage == 3:
        together = (2 * config.largest_layer + config.embedding) * numbers.compute
        parts.append(Part("gathered", together, "two layers and the embedding, gathered where they are used"))
    elif stage:
        parts.append(Part("buckets", int(min(2e8, trained)) * numbers.compute, "communication between the ranks"))
    return parts, sum(away)


def _optimizer_bytes(h: Hyperparameters, machine: Machine, trained: int, own: int) -> float:
    """``own``: bytes of a trained weight; ZeRO keeps weights and gradients in fp32 once more."""
    states = STATES.get(_optimizer(h, machine), 8.0) * trained * (1 if machine.stage else own / 4)
    return states + (8 * trained if machine.stage else 0)


def _weights_why(h: Hyperparameters, numbers: Numbers, machine: Machine) -> str:
    how = "4-bit" if h.load_in_4bit else "8-bit" if h.load_in_8bit else {2: "16-bit", 4: "fp32"}[numbers.stream]
    if not machine.cuda:
        how = {2: "16-bit", 4: "fp32"}[numbers.stream]
    shared = f", sharded over {machine.world}" if machine.stage == 3 and machine.world > 1 else ""
    return how + shared + (f", {_AWAY}" if machine.stage == 3 and machine.offloads else "")


def _base_bytes(h: Hyperparameters, config: ModelConfig, numbers: Numbers, machine: Machine) -> float:
    if not machine.cuda or not (h.load_in_4bit or h.load_in_8bit):
        return float(config.parameters * numbers.stream)
    quantised = config.linear_weights
    return quantised * (NF4 if h.load_in_4bit else 1.0) + (config.parameters - quantised) * numbers.stream


def trained_weights(h: Hyperparameters, config: ModelConfig) -> int:
    return config.parameters if h.full_finetuning else Adapter(h, config).weights


def moves_reference(h: Hyperparameters) -> bool:
    """Whether the reference is computed in every step: else its numbers are computed once and cached."""
    return bool(h.trl.get("sync_ref_model")) or h.trl.get("ld_alpha") is not None


def update_bytes(h: Hyperparameters, config: ModelConfig, machine: Machine) -> int:
    """Bytes of the optimizer's temporary copies: of all trained weights on a GPU (foreach), of one tensor on the CPU."""
    trained = trained_weights(h, config)
    name = _optimizer(h, machine)
    if machine.stage or name.endswith("_fused") or ("bit" in name and machine.cuda):
        return 0
    if machine.cuda:
        return 4 * trained
    copies = () if h.full_finetuning else Adapter(h, config).copies.values()
    return 4 * min(trained, config.embedding if h.full_finetuning else max(trained // 10, *copies, 0))
