"""Resumes under another sharding: converts the optimizer state of every weight, by name, between layouts.

DeepSpeed's own checkpoints fit one number of ranks and one ZeRO stage; its universal format, into which its own tool converts
them, fits all.
"""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from launcher.errors import ExperimentError, Mistake

from ..processes.ranks.importing import reveal
from ..processes.ranks.sharding import is_spread, stage

UNIVERSAL: Final = ".universal"
MOMENTS: Final = ("exp_avg", "exp_avg_sq")


def is_native(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Whether the checkpoint of ``then`` (see ``origin``) has the layout of this run's own, or one that any run can read."""
    if then is None:
        return True
    if not then["zero_stage"] and not now["zero_stage"]:
        return True  # every rank has all of it
    return bool(then["zero_stage"] == now["zero_stage"] and then["ranks"] == now["ranks"])


def carry_over(trainer: Any, checkpoint: Path, then: Mapping[str, Any]) -> None:
    """Sets weights, optimizer and learning rate to those of ``checkpoint``; the trainer has made a fresh optimizer.

    Every rank must call this. Raises ExperimentError unless the optimizer state is two moments per weight.
    """
    scratch = Path(trainer.args.output_dir) / UNIVERSAL
    if trainer.args.should_save and then["zero_stage"]:  # once in each folder that ranks share
        shutil.rmtree(scratch, ignore_errors=True)
        _make_universal(checkpoint, scratch)
    trainer.accelerator.wait_for_everyone()
    names = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    if stage(trainer):
        _make_states(trainer)
    states = _universal(scratch) if then["zero_stage"] else _plain(checkpoint, then["parameters"])
    missing = set(names)
    # Of a weight spread over ranks the universal format has no count of steps; there is one for all of them.
    step = float(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
    for name, state in states:
        if name in names:
            missing.discard(name)
            step = float(state.get("step", step))
            _set(trainer, names[name], {**state, "step": step})
    if missing:
        raise ExperimentError(
            Mistake(
                "launch.parallelism",
                f"{checkpoint} lacks the optimizer state of {len(missing)} weights, e.g. {min(missing)}",
                f"the checkpoint's {then['ranks']} process(es) and ZeRO stage {then['zero_stage']}, or an AdamW optimizer",
            )
        )
    if stage(trainer):
        for state in _inner(trainer).state.values():
            if "step" in state:
                state["step"] = torch.tensor(step) if isinstance(state["step"], Tensor) else step
    _set_schedule(trainer, torch.load(checkpoint / "scheduler.pt", weights_only=True))
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        shutil.rmtree(scratch, ignore_errors=True)


def parameter_names(trainer: Any) -> list[str]:
    """Names of the optimizer's weights in the order of its state, which has only numbers."""
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    return [names[id(p)] for group in trainer.optimizer.param_groups for p in group["params"]]


def _make_universal(checkpoint: Path, folder: Path) -> None:
    reveal("deepspeed")  # which a run that is not sharded itself has hidden
    from deepspeed.checkpoint.ds_to_universal import main

    tag = (checkpoint / "latest").read_text(encoding="utf-8").strip()
    main(
        Namespace(
            input_folder=str(checkpoint / tag),
            output_folder=str(folder),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=False,
            inject_missing_state=True,
        )
    )


def _universal(folder: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    for path in sorted((folder / "zero").iterdir()):
        if path.is_dir():
            yield path.name, {file.stem: _tensor(file) for file in path.glob("*.pt")}


def _tensor(file: Path) -> Any:
    content = torch.load(file, map_location="cpu", weights_only=False)
    return content["param"] if isinstance(content, dict) and "param" in content else content


def _plain(checkpoint: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    saved = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    weights: dict[str, Tensor] = {}
    for file in checkpoint.glob("*.safetensors"):
        weights |= load_file(file)
    for number, name in zip(numbers, names, strict=True):
        yield name, {**saved["state"][number], "fp32": weights[name.replace(".default", "")].float()}


def _set(trainer: Any, parameter: torch.nn.Parameter, state: Mapping[str, Any]) -> None:
    if not set(MOMENTS) <= state.keys():
        raise ExperimentError(
            Mistake("hyperparameters.optim", "this optimizer resumes only under the same sharding", "an AdamW optimizer")
        )
    shape = parameter.ds_shape if is_spread(parameter) else parameter.shape
    whole_state = {name: state[name].view(shape) for name in ("fp32", *MOMENTS)}
    if not stage(trainer):
        with torch.no_grad():
            parameter.copy_(whole_state["fp32"])
        kept = {name: whole_state[name].to(parameter.device, parameter.dtype) for name in MOMENTS}
        # A fused optimizer counts its steps where its weights are, any other on the CPU.
        is_fused = any(group.get("fused") for group in trainer.optimizer.param_groups)
        step = torch.tensor(state["step"], device=parameter.device if is_fused else "cpu")
        trainer.optimizer.state[parameter] = {"step": step, **kept}
        return
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    device = trainer.accelerator.device
    for name in MOMENTS:
        safe_set_full_optimizer_state(parameter, whole_state[name].to(device), name)
    safe_set_full_fp32_param(parameter, whole_state["fp32"].to(device))
    if not is_spread(parameter):
        with torch.no_grad():
            parameter.copy_(whole_state["fp32"])
    else:
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
            if trainer.args.process_index == 0:
                parameter.copy_(whole_state["fp32"])


def _make_states(trainer: Any) -> None:
    """Gives DeepSpeed's flat parts of the weights the state that the optimizer would create in its first step."""
    optimizer = trainer.deepspeed.optimizer
    flat = optimizer.fp32_partitioned_groups_flat if stage(trainer) == 3 else optimizer.single_partition_of_fp32_groups
    for part in flat:
        state = _inner(trainer).state[part]
        state.setdefault("step", torch.tensor(0.0))
        for name in MOMENTS:
            state.setdefault(name, torch.zeros_like(part))
    if stage(trainer) < 3:
        optimizer._lazy_init_hp_params_optimizer_state()


def _set_schedule(trainer: Any, saved: dict[str, Any]) -> None:
    """The learning rate continues; DeepSpeed groups the weights differently than the optimizer."""
    own = trainer.lr_scheduler.state_dict()
    rates = [saved["_last_lr"][0]] * len(own["base_lrs"])
    trainer.lr_scheduler.load_state_dict(
        {**own, **saved, "base_lrs": own["base_lrs"], "_last_lr": rates, "lr_lambdas": own["lr_lambdas"]}
    )
    for group in trainer.optimizer.param_groups:
        group["lr"] = rates[0]


def _inner(trainer: Any) -> Any:
    """The optimizer inside DeepSpeed's, whose state the two of them share."""
    return trainer.deepspeed.optimizer.optimizer
