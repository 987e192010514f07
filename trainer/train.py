"""The straight line of one rank: pairs -> tokens -> model -> DPO -> adapter -> upload."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import DPOConfig

from launcher.errors import ExperimentError, Mistake, Stopped, UploadError, nearest
from launcher.experiment import Experiment
from launcher.hyperparameters import Hyperparameters
from launcher.pairs import Pairs, read_pairs, write_processed
from launcher.run_dir import RunDir, expanded, write_whole

from .checkpoints import Patience, StopCallback, publish, resume_point, save_verified, step_of
from .dpo import DPOTrainer
from .logs import HealthCallback, LogCallback, StepLog
from .machine import Device, versions
from .model import (
    BITSANDBYTES,
    Precision,
    check_biases,
    choose_precision,
    load_model,
    load_tokenizer,
    lora_config,
    seed_adapter,
    widen_adapter,
)
from .stop import StopRequest
from .tokens import Tokens, tokenize


@dataclass(frozen=True)
class Roots:
    """Where this process finds and leaves things; relative paths of the experiment lie below them."""

    run: Path
    data: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> Roots:
        cache = os.environ.get("DPO_CACHE_ROOT") or Path("~/.cache/dpo-launcher").expanduser()
        return cls(Path(os.environ.get("DPO_RUN_ROOT", ".")), Path(os.environ.get("DPO_DATA_ROOT", ".")), Path(cache))


def train(run: RunDir, experiment: Experiment, roots: Roots, stop: StopRequest, *, attempt: int) -> None:
    """Trains ``experiment`` into ``run``; raises a LauncherError whose exit code says how it ended otherwise."""
    h = experiment.hyperparameters
    device = Device.here(h.gpu_memory_utilization)
    disable_progress_bar()
    if not device.cuda:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it looked for a GPU in vain
    first = device.rank == 0
    if first:
        run.update_record(packages=versions(), hardware=device.hardware())
    if run.adapter.exists():  # an earlier attempt trained and verified it, and could not upload it
        _upload(experiment, run, first)
        return

    pairs = read_pairs(experiment, roots.data)
    if first:
        _keep_data(experiment, run, roots, pairs)
    path = _model_path(experiment, roots.data)
    tokenizer = load_tokenizer(experiment, path)
    tokens, held_out = _tokenize_all(experiment, pairs, tokenizer, roots.cache)
    checkpoint = resume_point(run, experiment, roots.run)
    if first:
        _say_work(experiment, tokens, held_out, device, checkpoint)
        _say(_without_effect(experiment, device))

    precision = choose_precision(h, cuda=device.cuda, bf16=device.bf16)
    arguments = _arguments(experiment, run, precision, device)
    _check_optimizer(arguments)
    _heed(stop, checkpoint)
    model = load_model(experiment, path, precision, cuda=device.cuda)
    # TRL would load it by itself, and not from model_cache_dir; with an adapter it is the model without the adapter.
    reference = load_model(experiment, path, precision, cuda=device.cuda) if h.full_finetuning else None
    notice = check_biases(model, h)
    step = step_of(checkpoint) if checkpoint else 0
    log = StepLog(run, resume_step=step, attempt=attempt, events="tensorboard" in h.report_to) if first else None
    stopper = StopCallback(stop)
    callbacks = _callbacks(experiment, stopper, log, precision, experiment.steps(len(tokens.pairs), device.world))
    trainer = _trainer(h, model, reference, arguments, tokenizer, tokens, held_out, callbacks)
    if first:
        _say([*notice, f"{_parameters(trainer.model)}; {precision}"])

    _heed(stop, checkpoint)
    before = trainer.evaluate() if held_out and checkpoint is None else None
    if before is not None:
        _check_metric(trainer.args.metric_for_best_model, before)
    _heed(stop, checkpoint)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - began
    if stopper.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise Stopped(f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}, after a checkpoint")

    after = _final_metrics(trainer) if held_out else None
    verified = save_verified(trainer, run)
    if log is not None:
        before = before or _logged_at_start(run)
        _summarise(run, log, trainer, before, after, seconds, step, verified)
        log.close()
        publish(run)
    _upload(experiment, run, first)


def _trainer(
    h: Hyperparameters,
    model: Any,
    reference: Any,
    arguments: DPOConfig,
    tokenizer: Any,
    tokens: Tokens,
    held_out: Tokens | None,
    callbacks: list[TrainerCallback],
) -> DPOTrainer:
    """Raises ExperimentError where TRL or PEFT refuses what the experiment asks for."""
    try:
        trainer = DPOTrainer(
            model=model,
            ref_model=reference,
            args=arguments,
            train_dataset=tokens.dataset(),
            eval_dataset=held_out.dataset() if held_out else None,
            processing_class=tokenizer,
            callbacks=callbacks,
            peft_config=lora_config(h),
        )
    except (ValueError, NotImplementedError) as error:
        raise ExperimentError(Mistake("hyperparameters", f"TRL refuses these settings: {error}")) from error
    trainer.remove_callback(PrinterCallback)
    if not h.full_finetuning:
        widen_adapter(trainer.model)
        seed_adapter(trainer.model, h.random_state, h.seed)
    return trainer


def _heed(stop: StopRequest, checkpoint: Path | None) -> None:
    """Ends the run where it was asked to stop before its first step."""
    if stop.signal is not None:
        raise Stopped(f"stopped before the first step: {'nothing to resume' if checkpoint is None else f'{checkpoint} is whole'}")


def _check_metric(metric: str | None, evaluation: Mapping[str, float]) -> None:
    """Raises ExperimentError if no evaluation holds the metric that says which model is best."""
    names = sorted(name.removeprefix("eval_") for name in evaluation if name.startswith("eval_"))
    if metric is None or metric.removeprefix("eval_") in names:
        return
    raise ExperimentError(
        Mistake(
            "hyperparameters.metric_for_best_model",
            "is not measured by an evaluation",
            expected=f"one of {', '.join(names)}",
            found=metric,
            hint=nearest(metric, names),
        )
    )


def _say(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201 - the launcher follows the rank's output


def _without_effect(experiment: Experiment, device: Device) -> Iterator[str]:
    """One sentence for each setting that was written down and changes nothing here."""
    h = experiment.hyperparameters
    changed = {name for name, field in type(h).model_fields.items() if getattr(h, name) != field.default}
    if experiment.framework == "unsloth":
        yield "framework: unsloth pins an older trl; this run trains on this project's own path instead"
    if "dataset_num_proc" in h.trl:
        yield "dataset_num_proc has no effect: the pairs are tokenised in one go"
    if h.dpo_path == "fast":
        yield "dpo_path: fast has no effect: this version has the plain path only"
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


def _optimizer(name: str, *, cuda: bool) -> str:
    return name if cuda or "8bit" not in name else "adamw_torch"


def _model_path(experiment: Experiment, data_root: Path) -> str:
    if experiment.model_name.startswith("s3://"):
        raise ExperimentError(
            Mistake(
                "model_name", "models on S3 cannot be read by this version", "a hub id or a local folder", experiment.model_name
            )
        )
    folder = data_root / expanded(experiment.model_name)
    return str(folder) if folder.is_dir() else experiment.model_name


def _keep_data(experiment: Experiment, run: RunDir, roots: Roots, pairs: Pairs) -> None:
    """Writes what was read, with its hashes, into the run, and where the experiment asks for it."""
    sources = [asdict(source) for source in pairs.sources]
    write_processed(pairs, run.data)
    write_whole(run.data / "report.json", json.dumps({"sources": sources, "notices": pairs.notices}, indent=2) + "\n")
    run.update_record(data=sources)
    if experiment.save_processed_dataset:
        folder = roots.run / experiment.output_processed_dir / f"exp_{experiment.experiment_id}"
        _say([f"rendered pairs: {folder}"])
        write_processed(pairs, folder)


def _tokenize_all(experiment: Experiment, pairs: Pairs, tokenizer: Any, cache: Path) -> tuple[Tokens, Tokens | None]:
    h = experiment.hyperparameters
    names = {source.role: source.name for source in pairs.sources}
    tokens = tokenize(pairs.train, tokenizer, h, source=names["train"], cache=cache)
    if h.eval_strategy == "no" or not pairs.validation:
        return tokens, None
    return tokens, tokenize(pairs.validation, tokenizer, h, source=names["validation"], cache=cache)


def _say_work(experiment: Experiment, tokens: Tokens, held_out: Tokens | None, device: Device, checkpoint: Path | None) -> None:
    steps = experiment.steps(len(tokens.pairs), device.world)
    _say(
        [
            f"{len(tokens.pairs)} pairs, {tokens.total:,} tokens a pass, longest sequence {tokens.longest}; "
            f"{steps} steps of {experiment.global_batch} pairs",
            *tokens.notices,
            *(held_out.notices if held_out else ()),
            *([f"resuming from {checkpoint}{_at_the_end(checkpoint, steps)}"] if checkpoint else []),
        ]
    )
    if experiment.hyperparameters.resume_from_checkpoint is True and checkpoint is None:
        _say(["resume_from_checkpoint: no checkpoint of this experiment yet, starting from the beginning"])


def _at_the_end(checkpoint: Path, steps: int) -> str:
    return ", its last step: nothing is left to train" if step_of(checkpoint) >= steps else ""


def accumulation(experiment: Experiment, world: int) -> int:
    """Micro-batches a step on each of ``world`` ranks, so that a step holds ``global_batch`` pairs.

    Raises ExperimentError where they do not fit, which the launcher has said before; the Python API comes here first.
    """
    micro = experiment.hyperparameters.per_device_train_batch_size * world
    steps, rest = divmod(experiment.global_batch, micro)
    if rest or not steps:
        what = f"a global batch of {experiment.global_batch} pairs cannot be split evenly over {world} rank(s)"
        raise ExperimentError(Mistake("launch.global_batch_size", what, f"a multiple of {micro}", str(experiment.global_batch)))
    return steps


def _check_optimizer(arguments: DPOConfig) -> None:
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


def _arguments(experiment: Experiment, run: RunDir, precision: Precision, device: Device) -> DPOConfig:
    h = experiment.hyperparameters
    recompute = device.cuda if h.use_gradient_checkpointing == "auto" else h.use_gradient_checkpointing
    best = h.load_best_model_at_end or h.early_stopping_patience is not None
    settings: dict[str, Any] = {
        "output_dir": str(run.path),
        "max_length": None,  # tokens.py has cut every sequence
        "bf16": precision.bf16,
        "fp16": precision.fp16,
        "use_cpu": not device.cuda,
        "gradient_checkpointing": recompute,
        "use_cache": True,  # what a saved config.json says; TRL's own passes go without it
        "gradient_accumulation_steps": accumulation(experiment, device.world),
        "per_device_train_batch_size": h.per_device_train_batch_size,
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
    }
    if h.warmup_ratio is not None:
        settings["warmup_steps"] = h.warmup_ratio
    try:
        return DPOConfig(**{**settings, **h.trl})
    except (ValueError, TypeError) as error:
        raise ExperimentError(Mistake("hyperparameters", f"TRL refuses these settings: {error}")) from error


def _callbacks(
    experiment: Experiment, stopper: StopCallback, log: StepLog | None, precision: Precision, steps: int
) -> list[TrainerCallback]:
    h = experiment.hyperparameters
    callbacks: list[TrainerCallback] = [stopper]
    if log is not None:
        callbacks.append(LogCallback(log, steps))
    # A fresh adapter changes nothing, so every margin is zero and the sigmoid loss is -log sigmoid(0) = ln 2.
    known = h.loss_type == ("sigmoid",) and not {"loss_weights", "use_weighting"} & set(h.trl)
    tolerance = 1e-6 if precision.weights == torch.float32 and not (precision.bf16 or precision.fp16) else 5e-3
    first_loss = math.log(2) if known else None
    callbacks.append(HealthCallback(experiment.health, first_loss=first_loss, tolerance=tolerance, scaled=precision.fp16))
    if h.early_stopping_patience is not None:
        callbacks.append(Patience(h.early_stopping_patience, h.early_stopping_threshold))
    return callbacks


def _parameters(model: torch.nn.Module) -> str:
    if isinstance(model, PeftModel):
        trained, every = model.get_nb_trainable_parameters()  # a 4-bit tensor holds two weights a number
    else:
        every = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{every:,} parameters, {trained:,} trained ({trained / every:.1%})"


def _final_metrics(trainer: DPOTrainer) -> dict[str, float]:
    """The validation figures of the weights that are saved: those of the best step where it was loaded, else the last."""
    state = trainer.state
    was_loaded = trainer.args.load_best_model_at_end and state.best_model_checkpoint is not None
    step = state.best_global_step if was_loaded else state.global_step
    logged = next((e for e in reversed(state.log_history) if "eval_loss" in e and e["step"] == step), None)
    return dict(logged or trainer.evaluate())


def _logged_at_start(run: RunDir) -> dict[str, Any] | None:
    """The evaluation at step 0 that an earlier attempt of this run logged."""
    events = (json.loads(line) for line in run.steps.read_text(encoding="utf-8").splitlines())
    return next((event for event in events if event["type"] == "eval" and event["step"] == 0), None)


def _summarise(
    run: RunDir,
    log: StepLog,
    trainer: DPOTrainer,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    seconds: float,
    resumed_at: int,
    verified: Mapping[str, Any],
) -> None:
    state = trainer.state
    steps = state.global_step - resumed_at
    pairs = steps * trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps * trainer.args.world_size
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    summary: dict[str, Any] = {
        "train_loss": losses[-1] if losses else None,
        "train_seconds": round(seconds, 3),
        "pairs_per_second": round(pairs / seconds, 3) if seconds else None,
        "epoch": state.epoch,
        "best_step": state.best_global_step,
        "adapter": str(run.adapter),
    }
    for name, metrics in (("before", before), ("after", after)):
        if metrics is not None:
            summary[name] = {
                key: metrics[key] for key in metrics if key.startswith(("eval_loss", "eval_rewards/", "eval_logps/"))
            }
    log.write({"type": "summary", "step": state.global_step, "total_steps": state.max_steps, **summary, "seconds": log.seconds})
    run.update_record(result={**summary, "verified": dict(verified)})


def _upload(experiment: Experiment, run: RunDir, first: bool) -> None:
    storage = experiment.storage_config
    if not first or storage is None or not storage.upload_to_cloud:
        return
    from launcher.config import read_env
    from launcher.storage import upload_folder

    parts = (f"exp_{experiment.experiment_id}", experiment.model_folder, run.name)
    try:
        uploaded = upload_folder(run.adapter, storage=storage, prefix_parts=parts, env=read_env(Path()))
    except UploadError as error:
        raise UploadError(f"the adapter is whole in {run.adapter}, but was not uploaded: {error}") from error
    run.update_record(uploaded=asdict(uploaded))
    _say([f"uploaded {uploaded.objects} objects, {uploaded.bytes:,} bytes, to {uploaded.uri}"])
