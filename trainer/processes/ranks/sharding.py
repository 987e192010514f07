"""Models sharded by DeepSpeed's ZeRO: how to call them, and how to gather their weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn import Parameter

from .importing import DEEPSPEED


def is_sharded() -> bool:
    """Whether this run uses DeepSpeed."""
    return DEEPSPEED in os.environ


def stage(trainer: Any) -> int:
    """The ZeRO stage, what is sharded: 0 nothing, 1 the optimizer state, 2 also gradients, 3 also weights."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return 0 if plugin is None else int(plugin.zero_stage)


def leave_out_shared_memory() -> None:
    """On a CPU DeepSpeed compiles an all-reduce over shared memory: where nothing can compile it, gloo's does the same."""
    if shutil.which("ninja") and shutil.which("c++"):
        return
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


@contextmanager
def callable_model(trainer: Any) -> Iterator[Any]:
    """The model in callable form before the training has created DeepSpeed's engine.

    If weights are sharded, only an engine can gather a layer, so this creates one for its duration. If
    not, it moves the model to this rank's device: under DeepSpeed transformers leaves it on the CPU until then.
    """
    if stage(trainer) == 0:
        yield trainer.model
        return
    if stage(trainer) < 3:
        trainer.model.to(trainer.accelerator.device)
        yield trainer.model
        return
    from trl.models import prepare_deepspeed

    plugin = trainer.accelerator.state.deepspeed_plugin
    plugin.hf_ds_config.trainer_config_finalize(trainer.args, trainer.model, 0)
    engine = prepare_deepspeed(trainer.model, trainer.accelerator)
    try:
        yield engine
    finally:
        engine.destroy()


def whole(parameters: Sequence[Parameter]) -> AbstractContextManager[object]:
    """Gathers sharded ``parameters`` on every rank, for reading. All ranks must call this."""
    if not any(is_spread(parameter) for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters))


def is_spread(parameter: Parameter) -> bool:
    return hasattr(parameter, "ds_tensor")


def numel(parameter: Parameter) -> int:
    """Numbers in the whole parameter."""
    return int(parameter.ds_numel if is_spread(parameter) else parameter.numel())


def trained_tensors(model: torch.nn.Module, is_mine: Callable[[str], bool]) -> dict[str, Tensor]:
    """Copies on the CPU of the full trained tensors that ``is_mine`` selects; gathers one layer at a time.

    Every rank must call this; those to whom nothing belongs get nothing.
    """
    copies = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with whole([parameter]):
                if is_mine(name):
                    copies[name] = parameter.detach().cpu().clone()
    return copies


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every trained weight is a number, on every rank; all ranks must call this."""
    parts = [p.ds_tensor if is_spread(p) else p for p in model.parameters() if p.requires_grad]
    return all(gather_object([all(bool(torch.isfinite(part).all()) for part in parts)]))
