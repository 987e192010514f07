"""The straight line of one rank: pairs -> tokens -> model -> DPO -> adapter -> upload."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from transformers import PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar
from trl import DPOConfig

from launcher.data.pairs import Pairs
from launcher.errors import ExperimentError, Mistake, Stopped, nearest
from launcher.experiment.hyperparameters import Hyperparameters
from launcher.experiment.schema import Experiment
from launcher.runs.run_dir import RunDir

from .checkpoints.checkpointed import BUDGETS, CHECKPOINTING, MICRO, PATH
from .checkpoints.checkpoints import (
    ASIDE,
    Patience,
    StopCallback,
    any_rank,
    publish,
    remembered,
    resume_point,
    save_verified,
    step_of,
)
from .checkpoints.origin import check, check_base, origin
from .inputs.arguments import arguments, check_optimizer, smaller, without_effect
from .inputs.bucket import check_upload, model_path, name_base, upload_adapter
from .inputs.data import read_data
from .inputs.model import (
    Precision,
    check_biases,
    choose_precision,
    load_model,
    load_tokenizer,
    lora_config,
    seed_adapter,
    widen_adapter,
)
from .inputs.tokens import Tokens, tokenize
from .logs import HealthCallback, LogCallback, StepLog
from .processes.join import join
from .processes.machine import Device, versions
from .processes.peers import Peers
from .processes.sharding import is_sharded, numel
from .processes.stop import StopRequest
from .reference.identity import base_identity
from .step.choice import choose_path, take_path
from .step.dpo import DPOTrainer, Interrupted
from .step.losses import loss_at_zero_margin
from .step.memory import free_bytes, must_recompute
from .summary import final_metrics, logged_at_start, summarise


@dataclass(frozen=True)
class Roots:
    """Where this process finds and leaves things; relative paths of the experiment lie below them."""

    run: Path
    data: Path
    cache: Path
    splits: int = 0  # how often the micro-batch was halved in this run, because memory had run out

    @classmethod
    def from_environment(cls) -> Roots:
        cache = os.environ.get("DPO_CACHE_ROOT") or Path("~/.cache/dpo-launcher").expanduser()
        run, data = Path(os.environ.get("DPO_RUN_ROOT", ".")), Path(os.environ.get("DPO_DATA_ROOT", "."))
        return cls(run, data, Path(cache), int(os.environ.get("DPO_SPLITS", "0")))


def train(
    run: RunDir, experiment: Experiment, roots: Roots, stop: StopRequest, *, attempt: int, peers: Peers | None = None
) -> None:
    """Trains ``experiment`` into ``run``; raises a LauncherError whose exit code says how it ended otherwise."""
    h = experiment.hyperparameters
    device = Device.here(h.gpu_memory_utilization)
    disable_progress_bar()
    first = device.rank == 0
    join(run, experiment, device)
    if first:
        run.update_record(packages=versions(), hardware=device.hardware())
    if run.adapter.exists():  # an earlier attempt trained and verified it, and could not upload it
        if first:
            upload_adapter(experiment, run)
        return
    if first:
        check_upload(experiment)

    pairs = read_data(experiment, run, root=roots.run, data_root=roots.data, cache=roots.cache, first=first)
    path = model_path(experiment, roots.data, roots.cache, first=first)
    tokenizer = load_tokenizer(experiment, path)
    tokens, held_out = _tokenize_all(experiment, pairs, tokenizer, roots.cache)
    checkpoint = resume_point(run, experiment, roots.run)
    micro = smaller(h.per_device_train_batch_size, roots.splits, remembered(checkpoint, MICRO))
    precision = choose_precision(h, cuda=device.cuda, bf16=device.bf16, is_sharded=is_sharded())
    args = arguments(experiment, run, precision, device, micro)
    made_of = origin(experiment, tokens, held_out, device, _stage(args))
    if first:
        _say_work(experiment, run, tokens, held_out, device, checkpoint)
        _say(without_effect(experiment, device))
    differences = check(checkpoint, made_of) if checkpoint else []
    if first:
        _say(differences)

    check_optimizer(args)
    _heed(stop, checkpoint)
    model = load_model(experiment, path, precision, cuda=device.cuda)
    # Where the reference moves or depends on pairs it must be at hand; with an adapter it is the model without the adapter.
    keeps_reference = h.full_finetuning and not args.precompute_ref_log_probs
    reference = load_model(experiment, path, precision, cuda=device.cuda) if keeps_reference else None
    notice = check_biases(model, h)
    if device.cuda and h.use_gradient_checkpointing == "auto":
        notice = [*notice, _choose_checkpointing(args, model, h, tokens.longest, remembered(checkpoint, CHECKPOINTING))]
    step = step_of(checkpoint) if checkpoint else 0
    log = StepLog(run, resume_step=step, attempt=attempt, events="tensorboard" in h.report_to) if first else None
    stopper = StopCallback(stop)
    health = _health(experiment, args, precision)
    callbacks = _callbacks(experiment, stopper, log, health, experiment.steps(len(tokens.pairs), device.world))
    args.eval_on_start = held_out is not None and checkpoint is None
    trainer = _trainer(h, model, reference, args, tokenizer, tokens, held_out, callbacks)
    trainer.is_stop_wanted = lambda: any_rank(stop.signal is not None, args.device)
    health.culprits = trainer.culprits_of
    identity = gather_object([base_identity(path, roots.cache, model_cache_dir=h.model_cache_dir) if first else None])[0]
    if checkpoint:
        check_base(checkpoint, identity)
    if first:
        _say([*notice, f"{_parameters(trainer.model)}; {precision}"])
    _heed(stop, checkpoint)
    choice = choose_path(trainer, h.dpo_path, tokens, remembered(checkpoint, PATH), remembered(checkpoint, BUDGETS))
    if first:
        _say([choice.sentence])
        run.update_record(dpo_path={"path": choice.path, "sentence": choice.sentence, "row_tokens": choice.budget})
    names = {source.role: source.name for source in pairs.sources}
    data = [(names["train"], tokens), *([(names["validation"], held_out)] if held_out else [])]
    key = take_path(trainer, choice, precision, identity, data, roots.cache)
    trainer.origin = {**made_of, "base_model": identity, "reference": key}

    _heed(stop, checkpoint)
    began = time.monotonic()
    _train(trainer, checkpoint, peers)
    seconds = time.monotonic() - began
    if trainer.was_cut or (stopper.stopped and trainer.state.global_step < trainer.state.max_steps):
        raise Stopped(f"stopped at step {trainer.state.global_step} of {trainer.state.max_steps}, after a checkpoint")

    after = final_metrics(trainer) if held_out else None
    verified = save_verified(trainer, run)
    if log is not None:
        before = logged_at_start(run)
        summarise(run, log, trainer, before, after, seconds, step, verified)
        log.close()
        name_base(run.path / ASIDE, path, experiment)
        publish(run)
    gather_object([None])  # a rank that is done is not started again, so none is before the adapter is there
    if first:
        upload_adapter(experiment, run)


def _train(trainer: DPOTrainer, checkpoint: Path | None, peers: Peers | None) -> None:
    """Raises MemoryShortage where no shorter row helps, Stopped where the evaluation before the first step was cut short."""
    if peers is not None:
        trainer.add_callback(peers.callback())
    try:
        trainer.try_longest()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Interrupted:
        raise Stopped("stopped before the first step: nothing to resume") from None
    except torch.OutOfMemoryError as error:
        raise trainer.shortage(error) from error


def _stage(args: DPOConfig) -> int:
    return 0 if args.deepspeed_plugin is None else int(args.deepspeed_plugin.zero_stage)


def _choose_checkpointing(args: DPOConfig, model: Any, h: Hyperparameters, longest: int, before: bool | None) -> str:
    """Turns gradient checkpointing off where a micro-batch fits without it on every rank; ``before``: what a checkpoint says."""
    if before is not None:
        recompute, sentence = before, f"gradient checkpointing {'on' if before else 'off'}: as the checkpoint's run"
    else:
        every = sum(numel(p) for p in model.parameters())
        recompute, sentence = must_recompute(
            model.config,
            tokens=2 * args.per_device_train_batch_size * longest,  # of the plain path, which the run may come to take
            bytes_per_number=2 if args.bf16 or args.fp16 else 4,
            trained=every if h.full_finetuning else every // 20,  # an adapter has not been made yet, and is smaller
            free=free_bytes(h.gpu_memory_utilization),
        )
        recompute = any(gather_object([recompute]))
    args.activation_checkpointing = args.gradient_checkpointing = recompute
    return sentence


def _trainer(
    h: Hyperparameters,
    model: Any,
    reference: Any,
    args: DPOConfig,
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
            args=args,
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
        if not args.deepspeed:  # it keeps a copy in fp32 of what it trains
            widen_adapter(trainer.model)
        seed_adapter(trainer.model, h.random_state, h.seed)
    return trainer


def _heed(stop: StopRequest, checkpoint: Path | None) -> None:
    """Ends the run where it was asked to stop before its first step."""
    if stop.signal is not None:
        raise Stopped(f"stopped before the first step: {'nothing to resume' if checkpoint is None else f'{checkpoint} is whole'}")


class MetricCheck(TrainerCallback):
    """Looks at the first evaluation, which is before the first step."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **kwargs: Any) -> None:
        check_metric(args.metric_for_best_model, metrics)


def check_metric(metric: str | None, evaluation: Mapping[str, float]) -> None:
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


def _tokenize_all(experiment: Experiment, pairs: Pairs, tokenizer: Any, cache: Path) -> tuple[Tokens, Tokens | None]:
    h = experiment.hyperparameters
    names = {source.role: source.name for source in pairs.sources}
    tokens = tokenize(pairs.train, tokenizer, h, source=names["train"], cache=cache)
    if h.eval_strategy == "no" or not pairs.validation:
        return tokens, None
    return tokens, tokenize(pairs.validation, tokenizer, h, source=names["validation"], cache=cache)


def _say_work(
    experiment: Experiment, run: RunDir, tokens: Tokens, held_out: Tokens | None, device: Device, checkpoint: Path | None
) -> None:
    steps = experiment.steps(len(tokens.pairs), device.world)
    run.update_record(work={"pairs": len(tokens.pairs), "tokens": tokens.total, "longest": tokens.longest, "steps": steps})
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


def _callbacks(
    experiment: Experiment, stopper: StopCallback, log: StepLog | None, health: HealthCallback, steps: int
) -> list[TrainerCallback]:
    h = experiment.hyperparameters
    callbacks: list[TrainerCallback] = [stopper]
    if log is not None:
        callbacks.append(LogCallback(log, steps))
    callbacks += [health, MetricCheck()]
    if h.early_stopping_patience is not None:
        callbacks.append(Patience(h.early_stopping_patience, h.early_stopping_threshold))
    return callbacks


def _health(experiment: Experiment, args: DPOConfig, precision: Precision) -> HealthCallback:
    """The rules of the experiment, with the loss that the first step must have: policy and reference agree before it."""
    tolerance = 1e-6 if precision.weights == torch.float32 and not (precision.bf16 or precision.fp16) else 5e-3
    first_loss = None if args.use_weighting else loss_at_zero_margin(args)
    return HealthCallback(experiment.health, first_loss=first_loss, tolerance=tolerance, scaled=precision.fp16)


def _parameters(model: torch.nn.Module) -> str:
    if isinstance(model, PeftModel):
        trained, every = model.get_nb_trainable_parameters()  # a 4-bit tensor holds two weights a number
    else:
        every = sum(numel(p) for p in model.parameters())
        trained = sum(numel(p) for p in model.parameters() if p.requires_grad)
    return f"{every:,} parameters, {trained:,} trained ({trained / every:.1%})"
