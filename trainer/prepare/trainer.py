"""The trainer: holds the model and the inputs, with what watches it, still before the first step."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from accelerate.utils import gather_object
from transformers import PrinterCallback, TrainerCallback

from launcher.errors import ExperimentError, Mistake
from launcher.experiment.schema import Experiment
from launcher.health import Facts
from launcher.planning.rows import Rows

from ..checkpoints.best import MetricCheck, Patience
from ..checkpoints.checkpoints import StopCallback, any_rank
from ..checkpoints.origin import check_base
from ..checkpoints.remembered import step_of
from ..health import HealthCallback
from ..inputs.models.adapter import (
    continue_adapter,
    kept_adapter,
    lora_config,
    seed_adapter,
    sizes,
    skip_input_casts,
    widen_adapter,
)
from ..inputs.recorded import check_recorded_adapter, check_recorded_model
from ..logs import CHARTS, CHARTS_OF_SFT, LogCallback, StepLog
from ..output import notices, say, stage
from ..reference.identity import base_identity, revision, started_identity
from ..step.choosing.pace import step_seconds
from ..step.dpo import DPOTrainer
from ..step.sft import SFTTrainer
from .inputs import Inputs
from .model import Loaded
from .rank import Rank


@dataclass(frozen=True)
class Ready:
    """The trainer, still on the plain path, with what watches it."""

    trainer: DPOTrainer
    stopper: StopCallback
    health: HealthCallback
    log: StepLog | None  # the first rank's
    identity: str  # of the base weights, see reference.identity
    reference: str  # of the weights that the training starts from
    rows: Rows | None  # see Loaded
    step: int  # the first one to compute comes after it


def prepare_trainer(rank: Rank, inputs: Inputs, loaded: Loaded) -> Ready:
    """Makes the trainer and the run's log; checks that the base weights are those of the checkpoint."""
    experiment, args, checkpoint = rank.experiment, inputs.args, inputs.checkpoint
    step = step_of(checkpoint) if checkpoint else 0
    events = "tensorboard" in experiment.hyperparameters.report_to
    layout = CHARTS_OF_SFT if experiment.is_sft else CHARTS
    log = StepLog(rank.run, resume_step=step, attempt=rank.attempt, events=events, charts=layout) if rank.first else None
    stopper = StopCallback(rank.stop)
    work = {"pairs": len(inputs.tokens.pairs), "answers": asdict(inputs.tokens.answers) if inputs.tokens.answers else None}
    if (planned := step_seconds(experiment, loaded.policy, inputs.tokens, args)) is not None:
        work["step_seconds"] = planned
        if rank.first:
            rank.run.update_record(work={**(rank.run.read_record().get("work") or {}), "step_seconds": planned})
    facts = Facts.of(experiment.model_dump(mode="json"), work, scaled=inputs.precision.fp16)
    health = HealthCallback(experiment.health, facts, run=rank.run.name, stopper=stopper, notify=experiment.notify)
    steps = experiment.steps(len(inputs.tokens.pairs), rank.device.world, args.per_device_train_batch_size)
    callbacks = _callbacks(experiment, stopper, log, health, steps)
    args.eval_on_start = inputs.held_out is not None and checkpoint is None
    trainer = _trainer(rank, inputs, loaded, callbacks)
    trainer.is_stop_wanted = lambda: any_rank(rank.stop.signal is not None, args.device)
    health.culprits = trainer.culprits.in_words
    if log is not None:
        health.begin(rank.run, log)
    health.raise_for_data(args.device)
    cache, hub = rank.roots.cache, experiment.hyperparameters.model_cache_dir
    with stage("hashing the weights"):
        identity = gather_object([base_identity(inputs.path, cache, model_cache_dir=hub) if rank.first else None])[0]
    if checkpoint:
        check_base(checkpoint, identity)
    made_of = {"identity": identity, "revision": revision(inputs.path, model_cache_dir=hub)}
    another = check_recorded_model(rank.run, made_of)
    if inputs.start is not None:
        another += check_recorded_adapter(rank.run, inputs.start.json())
    if rank.first:
        rank.run.update_record(model=made_of)
        notices(another)
        _say_model(rank, inputs, loaded, trainer)
    reference = identity if inputs.start is None else started_identity(identity, inputs.start.identity)
    return Ready(trainer, stopper, health, log, identity, reference, loaded.rows, step)


def _say_model(rank: Rank, inputs: Inputs, loaded: Loaded, trainer: DPOTrainer) -> None:
    """Says what is trained, and records the adapter."""
    notices(loaded.notices)
    say(f"{sizes(trainer.model)}; {inputs.precision}")
    if loaded.wanted is not None:
        covered = loaded.wanted.covered(trainer.model)
        say(covered.sentence)
        notices(covered.notices)
    known = {} if loaded.wanted is None else covered.json()
    started = {} if inputs.start is None else inputs.start.json()
    if known or started:  # at once: a resume reads which commit of the adapter it was
        rank.run.update_record(adapter={**known, **started})


def _trainer(rank: Rank, inputs: Inputs, loaded: Loaded, callbacks: list[TrainerCallback]) -> DPOTrainer:
    """Raises ExperimentError where TRL or PEFT refuses what the experiment asks for."""
    h = rank.experiment.hyperparameters
    is_continued = inputs.start is not None and inputs.start.is_continued
    kept = kept_adapter(loaded.policy) if is_continued else {}
    try:
        trainer = (SFTTrainer if rank.experiment.is_sft else DPOTrainer)(
            model=loaded.policy,
            ref_model=loaded.reference,
            args=inputs.args,
            train_dataset=inputs.tokens.dataset(),
            eval_dataset=inputs.held_out.dataset() if inputs.held_out else None,
            processing_class=inputs.tokenizer,
            callbacks=callbacks,
            peft_config=None if is_continued else lora_config(h, loaded.policy),
        )
    except (ValueError, NotImplementedError) as error:
        raise ExperimentError(Mistake("hyperparameters", f"TRL refuses these settings: {error}")) from error
    trainer.remove_callback(PrinterCallback)
    if not h.full_finetuning:
        if not inputs.args.deepspeed:  # it keeps a copy in fp32 of what it trains
            widen_adapter(trainer.model)
        if inputs.precision.bf16 or inputs.precision.fp16:
            skip_input_casts(trainer.model)
        if is_continued:
            continue_adapter(trainer, kept, h.seed)
        else:
            seed_adapter(trainer.model, h.random_state, h.seed)
    return trainer


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
