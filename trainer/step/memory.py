"""Memory of this rank's GPU: how long rows are and whether activations are recomputed, as ``launcher.planning.rows`` decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peft import PeftModel
from trl import DPOConfig

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.planning.rows import Passes, Rows, ceiling, choose_rows, rows_by_pairs
from launcher.planning.sizes.machine import Machine
from launcher.planning.sizes.model_config import ModelConfig
from launcher.planning.tokens.work import Work

from ..inputs.tokens.token_pairs import TokenPairs
from ..inputs.tokens.tokens import Tokens
from ..processes.ranks.sharding import numel
from .forward.attention import attention

UNKNOWN = "gradient checkpointing on: the model's configuration lacks the sizes to estimate its activations"


def free_bytes(gpu_memory_utilization: float) -> int:
    """Free bytes of this rank's GPU under the experiment's limit, counting what this process already holds as free."""
    free, total = torch.cuda.mem_get_info()
    return min(free + torch.cuda.memory_reserved(), ceiling(total, gpu_memory_utilization))


def counted(tokens: Tokens, batch: int) -> Work:
    """The work of an epoch as ``launcher plan`` counts it, with the lengths of the ``batch`` longest pairs."""
    learned = int(tokens.pairs.lengths[:, 1].sum()) if tokens.pairs.answers == 1 else None
    lengths = np.sort(tokens.pairs.lengths.sum(axis=1))[::-1]
    most = tuple(lengths[:batch].tolist())
    return Work(len(lengths), tokens.total, int(lengths.sum()), tokens.longest, most[0], True, 0, learned, most)


def plan_rows(
    experiment: Experiment, model: Any, work: Work, args: DPOConfig, *, packed: bool, recompute: bool | None = None
) -> Rows | None:
    """The rows of this rank's GPU before anything but quantised weights is on it; None where the model's sizes are unknown.

    ``packed``: without padding. ``recompute``: whether gradient checkpointing is on; None: as the experiment sets it.
    """
    try:
        config = ModelConfig.parse(model.config.to_dict())
    except ExperimentError:
        return None
    # What the configuration does not tell, as a part of the model that sees images.
    own = (parameter for name, parameter in model.named_parameters() if "lora_" not in name)  # the adapter is counted apart
    others = max(0, sum(map(numel, own)) - config.parameters)
    free = free_bytes(experiment.hyperparameters.gpu_memory_utilization)
    free -= others * next(model.parameters()).element_size()
    machine = Machine(args.world_size, parallelism(args))
    return choose_rows(Passes(experiment, config, work, machine, packed), free, recompute)


def parallelism(args: DPOConfig) -> str:
    """How the ranks share the model, by the names of ``launch.parallelism``."""
    plugin = args.deepspeed_plugin
    number = 0 if plugin is None else int(plugin.zero_stage)
    if not number:
        return "ddp"
    zero = plugin.hf_ds_config.config.get("zero_optimization") or {}
    moves = str((zero.get("offload_optimizer") or {}).get("device", "none")) != "none"
    return f"zero{number}" + ("_offload" if moves and number > 1 else "")


def as_in_training(trainer: Any) -> None:
    """Puts the model into the mode of a training step, with gradient checkpointing where the arguments ask for it.

    transformers does that when the training starts: what is computed with gradients before would keep all activations.
    """
    args = trainer.args
    trainer.model.train()  # a layer keeps its activations in evaluation mode, whatever is enabled
    if args.activation_checkpointing:
        given = dict(args.activation_checkpointing_kwargs or {})
        own = {name: given.pop(name) for name in ("every_n_layers", "offload") if name in given}  # the others are torch's
        trainer.model.activation_checkpointing_enable(activation_checkpointing_kwargs=given or None, **own)


def row_budget(pairs: TokenPairs, per_device: int, model: Any, device: torch.device, planned: Rows | None) -> int:
    """Tokens of a row: as ``planned`` by the free memory where FlexAttention computes only what is seen, else few pairs."""
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    is_sparse = attention(device, causal) == "flex_attention"
    if is_sparse and planned is not None and planned.packed:
        return planned.tokens
    return rows_by_pairs(int(pairs.lengths.sum(axis=1).max()), per_device, short=not is_sparse)
