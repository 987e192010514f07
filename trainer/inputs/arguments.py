"""The settings as TRL's arguments: what is passed on, what is refused here, and what changes nothing on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from transformers import Trainer
from trl import DPOConfig

from launcher.errors import ExperimentError, Mistake
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

from ..processes.machine import Device
from ..processes.sharding import DEEPSPEED, is_sharded
from .model import BITSANDBYTES, Precision


def arguments(experiment: Experiment, run: RunDir, precision: Precision, device: Device, micro: int | None = None) -> DPOConfig:
    """TRL's arguments for one rank; raises ExperimentError where TRL refuses them or the batch cannot be split.

    ``micro``: pairs a rank computes at once, where they are fewer than the experiment's, as memory has run out.
    """
    h = experiment.hyperparameters
    recompute = device.cuda if h.use_gradient_checkpointing == "auto" else h.use_gradient_checkpointing
    best = h.load_best_model_at_end or h.early_stopping_patience is not None
    settings: dict[str, Any] = {
        "output_dir": str(run.path),
        "max_length": None,  # tokens.py has cut every sequence
        "bf16": precision.bf16,
        "fp16": precision.fp16,
        "use_cpu": not device.cuda and not is_sharded(),  # accelerate takes use_cpu for "no DeepSpeed"; it finds no GPU itself
        "gradient_checkpointing": recompute,
        "use_cache": True,  # what a saved config.json says; TRL's own passes go without it
        "gradient_accumulation_steps": accumulation(experiment, device.world, micro),
        "per_device_train_batch_size": micro or h.per_device_train_batch_size,
        "deepspeed": os.environ.get(DEEPSPEED),
        "accelerator_config": {"use_configured_state": is_sharded()},  # train.join has met the other ranks
        "beta": h.beta,
        "loss_type": list(h.loss_type),
        "label_smoothing": h.label_smoothing,
        "num_train_epochs": h.num_train_epochs,
        "max_steps": h.max_steps or -1,
        "learning_rate": h.learning_rate,
        "weight_decay": h.weight_decay,
        "lr_scheduler_type": h.lr_scheduler_type,
        "optim": _optimizer(h.optim, cuda=device.cuda),
        "seed": h.seed,
        "trust_remote_code": h.trust_remote_code,
        "logging_steps": h.logging_steps,
        "logging_nan_inf_filter": False,  # it hides a NaN behind the last good loss; health decides
        "save_strategy": h.save_strategy,
        "save_steps": h.save_steps,
        "save_total_limit": h.save_total_limit,
        "eval_strategy": h.eval_strategy,
        "eval_steps": h.eval_steps,
        "load_best_model_at_end": h.load_best_model_at_end,
        "metric_for_best_model": h.metric_for_best_model or ("loss" if best else None),
        "greater_is_better": h.greater_is_better,
        "report_to": "none",  # logs.py writes TensorBoard, with the same names as the JSONL
        "disable_tqdm": True,
        "dataloader_pin_memory": device.cuda,
        "ddp_find_unused_parameters": False,  # every trained weight is in every loss; DDP warns where it looks in vain
        "prediction_loss_only": True,
        # Without a second copy of all weights: trainer.reference has the numbers before the first step. See choice.is_fixed.
        "precompute_ref_log_probs": h.full_finetuning and not h.trl.get("sync_ref_model") and h.trl.get("ld_alpha") is None,
    }
    if h.warmup_ratio is not None:
        settings["warmup_steps"] = h.warmup_ratio
    try:
        return DPOConfig(**{**settings, **h.trl})
    except (ValueError, TypeError) as error:
        raise ExperimentError(Mistake("hyperparameters", f"TRL refuses these settings: {error}")) from error


def smaller(per_device: int, splits: int, remembered: int | None) -> int:
    """``per_device`` halved ``splits`` times: the largest whole divisor that is not above it, at least 1.

    ``remembered``: what the checkpoint's run took; memory may have run out since, and then it is too much.
    """
    most = min(max(1, per_device >> splits), remembered or per_device)
    return next(size for size in range(most, 0, -1) if per_device % size == 0)


def accumulation(experiment: Experiment, world: int, micro: int | None = None) -> int:
    """Micro-batches a step on each of ``world`` ranks, so that a step holds ``global_batch`` pairs.

    Raises ExperimentError where they do not fit, which the launcher has said before; the Python API comes here first.
    """
    micro = (micro or experiment.hyperparameters.per_device_train_batch_size) * world
    steps, rest = divmod(experiment.global_batch, micro)
    if rest or not steps:
        what = f"a global batch of {experiment.global_batch} pairs cannot be split evenly over {world} rank(s)"
        raise ExperimentError(Mistake("launch.global_batch_size", what, f"a multiple of {micro}", str(experiment.global_batch)))
    return steps


def _optimizer(name: str, *, cuda: bool) -> str:
    return name if cuda or "8bit" not in name else "adamw_torch"


def check_optimizer(arguments: DPOConfig) -> None:
    """Raises ExperimentError where the optimizer's package is missing: transformers would find out after the weights."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments)
    except ImportError as error:
        hint = BITSANDBYTES if "bitsandbytes" in str(error) else str(error)
        name = str(arguments.optim.value)
        raise ExperimentError(
            Mistake("hyperparameters.optim", "needs a package that is not installed", found=name, hint=hint)
        ) from error
    except ValueError:
        pass  # some optimizers want to see the model; TRL's trainer makes them when it is there


def without_effect(experiment: Experiment, device: Device) -> Iterator[str]:
    """One sentence for each setting that was written down and changes nothing here."""
    h = experiment.hyperparameters
    changed = {name for name, field in type(h).model_fields.items() if getattr(h, name) != field.default}
    if experiment.framework == "unsloth":
        yield "framework: unsloth pins an older trl; this run trains on this project's own path instead"
    if "dataset_num_proc" in h.trl:
        yield "dataset_num_proc has no effect: the pairs are tokenised in one go"
    if not device.cuda:
        for name in ("load_in_4bit", "load_in_8bit"):
            if getattr(h, name):
                yield f"{name} has no effect: it needs a CUDA device; the weights are not quantised"
        if "gpu_memory_utilization" in changed:
            yield "gpu_memory_utilization has no effect: there is no GPU"
        if h.use_gradient_checkpointing is True:
            yield "use_gradient_checkpointing costs time and saves main memory: there is no GPU"
        if _optimizer(h.optim, cuda=False) != h.optim:
            yield f"optim: {h.optim} needs a CUDA device: adamw_torch is used"
    if h.lora_dropout and not h.full_finetuning and h.trl.get("disable_dropout", True):
        yield "lora_dropout has no effect: TRL disables dropout for DPO; set disable_dropout: false to have it"
    if h.full_finetuning:
        lora = {"r", "lora_alpha", "lora_dropout", "bias", "target_modules", "random_state"} & changed
        if lora:
            yield f"{', '.join(sorted(lora))}: no effect with full_finetuning"
    if h.eval_strategy == "no" and (experiment.validation_filename or experiment.validation_sheet):
        yield "the validation pairs are checked and not evaluated: eval_strategy is no"
