"""Turns the experiment into TRL's arguments, rejects some, and reports those without effect on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import torch
from transformers import Trainer, get_scheduler
from trl import DPOConfig

from launcher.data.notices import never_evaluated
from launcher.errors import ExperimentError, Mistake, Warned
from launcher.experiment.other_tools.trl_fields import FIELDS, Fate
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.lora import OF_ADAPTER
from launcher.packages import adding
from launcher.planning.sizes.state import optimizer_of
from launcher.runs.run_dir import RunDir

from ..processes.bucket import has_own_runs
from ..processes.ranks.importing import DEEPSPEED
from ..processes.ranks.machine import Device
from ..processes.ranks.sharding import is_sharded
from .models.model import Precision


def arguments(experiment: Experiment, run: RunDir, precision: Precision, device: Device, micro: int | None = None) -> DPOConfig:
    """TRL's arguments for one rank. Raises ExperimentError if TRL rejects them or the batch cannot be split.

    ``micro``: pairs that a rank computes at once, if memory ran out and it is fewer than the experiment's.
    """
    h = experiment.hyperparameters
    settings = {**_of_this_project(experiment), **_of_the_device(experiment, run, precision, device, micro)}
    warmup = {} if h.warmup_ratio is None or h.trl.get("warmup_steps") else {"warmup_steps": h.warmup_ratio}
    left_out = {name for name in h.trl if FIELDS[name].fate is Fate.NOTHING} | set(() if device.cuda else _OF_CUDA)
    fields = {name: value for name, value in h.trl.items() if name not in left_out}
    try:
        return DPOConfig(**{**settings, **fields, **warmup})
    except (ValueError, TypeError) as error:
        raise ExperimentError(Mistake("hyperparameters", f"TRL refuses these settings: {error}")) from error


_OF_CUDA: Final = ("activation_offloading",)  # fields of TRL that fail without a CUDA device
_SAME: Final = (  # keys with TRL's names and meanings
    "beta", "label_smoothing", "num_train_epochs", "learning_rate", "weight_decay", "lr_scheduler_type", "seed",
    "trust_remote_code", "logging_steps", "save_strategy", "save_steps", "save_total_limit", "eval_strategy", "eval_steps",
    "load_best_model_at_end", "greater_is_better",
)  # fmt: skip


def _of_this_project(experiment: Experiment) -> dict[str, Any]:
    """Arguments that do not depend on the device: the experiment's values, and what this project does itself."""
    h = experiment.hyperparameters
    best = h.load_best_model_at_end or h.early_stopping_patience is not None
    return {
        **{name: getattr(h, name) for name in _SAME},
        "loss_type": list(h.loss_type),
        "max_steps": h.max_steps or -1,
        "metric_for_best_model": h.metric_for_best_model or ("loss" if best else None),
        "max_length": None,  # tokens.py has cut every sequence
        "use_cache": True,  # for a saved config.json; TRL's own passes go without it
        "logging_nan_inf_filter": False,  # it would hide a NaN behind the last good loss; the health rules decide
        "report_to": "none",  # logs.py writes TensorBoard, with the same names as the JSONL; trackers.py has the others
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,  # every trained weight is in every loss, so DDP would search in vain and warn
        "prediction_loss_only": True,
        # Without a second copy of all weights: trainer.reference has the numbers before the first step. See choice.is_fixed.
        "precompute_ref_log_probs": h.full_finetuning and not h.trl.get("sync_ref_model") and h.trl.get("ld_alpha") is None,
    }


def _of_the_device(
    experiment: Experiment, run: RunDir, precision: Precision, device: Device, micro: int | None
) -> dict[str, Any]:
    """Arguments that depend on the device and the number of ranks."""
    h = experiment.hyperparameters
    return {
        "output_dir": str(run.path),
        "save_on_each_node": has_own_runs(),  # then every node has all common files
        "run_name": run.name,
        "bf16": precision.bf16,
        "fp16": precision.fp16,
        "use_cpu": not device.cuda and not is_sharded(),  # accelerate takes use_cpu for "no DeepSpeed"; it finds no GPU itself
        "gradient_checkpointing": device.cuda if h.use_gradient_checkpointing == "auto" else h.use_gradient_checkpointing,
        "gradient_accumulation_steps": accumulation(experiment, device.world, micro),
        "per_device_train_batch_size": micro or h.per_device_train_batch_size,
        "deepspeed": os.environ.get(DEEPSPEED),
        "accelerator_config": {"use_configured_state": is_sharded()},  # join has already connected the ranks
        "optim": optimizer_of(h.optim, cuda=device.cuda, sharded=is_sharded()),
        "dataloader_pin_memory": device.cuda,
    }


def smaller(per_device: int, splits: int, remembered: int | None) -> int:
    """``per_device`` halved ``splits`` times: the largest divisor that is not above that, at least 1.

    ``remembered``: the value of the checkpoint's run; memory may have run out since, and then it is too large.
    """
    most = min(max(1, per_device >> splits), remembered or per_device)
    return next(size for size in range(most, 0, -1) if per_device % size == 0)


def accumulation(experiment: Experiment, world: int, micro: int | None = None) -> int:
    """Micro-batches per step on each of ``world`` ranks, so that a step holds ``global_batch`` pairs.

    Raises ExperimentError if they do not fit. The launcher checks this earlier; the Python API only here.
    """
    micro = (micro or experiment.hyperparameters.per_device_train_batch_size) * world
    steps, rest = divmod(experiment.global_batch, micro)
    if rest or not steps:
        what = f"a global batch of {experiment.global_batch} pairs cannot be split evenly over {world} process(es)"
        raise ExperimentError(Mistake("launch.global_batch_size", what, f"a multiple of {micro}", str(experiment.global_batch)))
    return steps


def check_optimizer(arguments: DPOConfig) -> None:
    """Raises ExperimentError if the optimizer cannot be created. transformers would fail only after loading the weights."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments)
    except ImportError as error:
        hint = adding("cuda") if "bitsandbytes" in str(error) else str(error)
        name = str(arguments.optim.value)
        raise ExperimentError(
            Mistake("hyperparameters.optim", "needs a package that is not installed", found=name, hint=hint)
        ) from error
    except (ValueError, TypeError, NotImplementedError) as error:
        if "You need to pass a" in str(error):
            return  # some optimizers need the model; TRL's trainer creates them after loading it
        found = str(arguments.optim.value)
        raise ExperimentError(Mistake("hyperparameters.optim", "cannot be used", found=found, hint=str(error))) from error


def check_schedule(arguments: DPOConfig) -> None:
    """Raises ExperimentError if the learning rate schedule cannot be created. transformers would fail only after loading."""
    weight = torch.nn.Parameter(torch.zeros(1))
    try:
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=torch.optim.SGD([weight], lr=1.0),
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )
    except (TypeError, ValueError) as error:
        name = str(arguments.lr_scheduler_type.value)
        what = f"does not fit lr_scheduler_type: {name}"
        raise ExperimentError(Mistake("hyperparameters.lr_scheduler_kwargs", what, hint=str(error))) from error


def without_effect(experiment: Experiment, device: Device) -> Iterator[str]:
    """One sentence for each setting that has no effect here."""
    h = experiment.hyperparameters
    defaults = {name: field.get_default(call_default_factory=True) for name, field in type(h).model_fields.items()}
    changed = {name for name, value in defaults.items() if getattr(h, name) != value}
    if experiment.framework == "unsloth":
        yield "framework: unsloth is not used (it pins an older trl); this project's own fast path trains instead"
    if not device.cuda:
        for name in ("load_in_4bit", "load_in_8bit"):
            if getattr(h, name):
                yield Warned(f"{name} has no effect without a CUDA device: the weights are not quantised")
        for name in _OF_CUDA:
            if h.trl.get(name):
                yield Warned(f"{name} has no effect without a CUDA device")
        if "gpu_memory_utilization" in changed:
            yield Warned("gpu_memory_utilization has no effect without a GPU")
        if h.use_gradient_checkpointing is True:
            yield "use_gradient_checkpointing: true saves main memory and costs time: this machine has no GPU"
        if optimizer_of(h.optim, cuda=False, sharded=False) != h.optim:
            yield Warned(f"optim: {h.optim} needs a CUDA device: this run uses adamw_torch")
    if h.lora_dropout and not h.full_finetuning and h.trl.get("disable_dropout", True):
        yield Warned("lora_dropout has no effect: TRL disables dropout for DPO; set disable_dropout: false to use it")
    if h.full_finetuning:
        lora = OF_ADAPTER & changed
        if lora:
            yield Warned(f"no effect with full_finetuning: {', '.join(sorted(lora))}")
    if h.eval_steps is not None and h.eval_strategy != "steps":
        yield Warned(f"eval_steps has no effect with eval_strategy: {h.eval_strategy}")
    yield from never_evaluated(experiment)
