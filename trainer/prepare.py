"""All that is ready before the first step: the inputs, the model, and the trainer that holds both."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig

from launcher.data.pairs import Pairs
from launcher.errors import ExperimentError, Mistake, Stopped
from launcher.experiment.schema import Experiment
from launcher.health import Facts
from launcher.planning.rows import Rows
from launcher.runs.run_dir import RunDir, write_whole

from .checkpoints.best import MetricCheck, Patience
from .checkpoints.checkpoints import StopCallback, any_rank, resume_point
from .checkpoints.origin import check, check_base, day_of, origin
from .checkpoints.remembered import CHECKPOINTING, MICRO, PATH, remembered, step_of
from .evaluation.prompts import SamplePrompt, sample_prompts
from .health import HealthCallback
from .inputs.adapter import (
    check_biases,
    continue_adapter,
    kept_adapter,
    lora_config,
    seed_adapter,
    sizes,
    skip_input_casts,
    widen_adapter,
)
from .inputs.arguments import arguments, check_optimizer, check_schedule, smaller, without_effect
from .inputs.clock import Clock, day_of_run
from .inputs.data import read_data
from .inputs.model import Precision, choose_precision, load_tokenizer, weights_size
from .inputs.reach import Reach, check_reach, read_from
from .inputs.recorded import check_recorded_adapter, check_recorded_data, check_recorded_model, recorded_base, recorded_commit
from .inputs.skeleton import examined
from .inputs.started import load_start, rounding
from .inputs.starting import Located, Start, locate
from .inputs.targets import Wanted, check_targets
from .inputs.tokens import Tokens, tokenize
from .logs import CHARTS, CHARTS_OF_SFT, LogCallback, StepLog
from .output import EVERY, notices, say, stage
from .processes.machine import Device
from .processes.sharding import is_sharded
from .processes.stop import StopRequest
from .processes.waiting import Waiting
from .reference.identity import base_identity, revision, started_identity
from .step.dpo import DPOTrainer
from .step.memory import UNKNOWN, counted, plan_rows
from .step.pace import step_seconds
from .step.packed import why_plain
from .step.sft import SFTTrainer


@dataclass(frozen=True)
class Roots:
    """Where this process reads and writes; relative paths of the experiment lie below these folders."""

    run: Path
    data: Path
    cache: Path
    splits: int = 0  # how often the micro-batch was halved in this run, because memory had run out

    @classmethod
    def from_environment(cls) -> Roots:
        cache = os.environ.get("DPO_CACHE_ROOT") or Path("~/.cache/dpo-launcher").expanduser()
        run, data = Path(os.environ.get("DPO_RUN_ROOT", ".")), Path(os.environ.get("DPO_DATA_ROOT", "."))
        return cls(run, data, Path(cache), int(os.environ.get("DPO_SPLITS", "0")))


@dataclass(frozen=True)
class Rank:
    """One process of a run, and what it was asked to do."""

    run: RunDir
    experiment: Experiment
    roots: Roots
    stop: StopRequest
    attempt: int
    device: Device

    @property
    def first(self) -> bool:
        return self.device.rank == 0

    @property
    def waiting(self) -> Waiting:
        """Waits for a server that is away, unless a stop is wanted."""
        return Waiting(lambda: self.stop_if_asked(next(reversed(self.run.checkpoints()), None)))

    def stop_if_asked(self, checkpoint: Path | None) -> None:
        """Raises Stopped where the run was asked to stop before its first step."""
        if self.stop.signal is not None:
            raise Stopped(before_first_step(checkpoint))


def before_first_step(checkpoint: Path | None) -> str:
    """The sentence of a run that was stopped before its first step."""
    then = "nothing to resume" if checkpoint is None else f"resumes from {checkpoint.name}"
    return f"stopped before the first step: {then}"


@dataclass(frozen=True)
class Inputs:
    """What a run is made of, before its model is loaded."""

    pairs: Pairs
    path: str  # of the model: a hub id or a folder
    start: Start | None  # the adapter that the training starts from
    tokenizer: Any
    tokens: Tokens
    held_out: Tokens | None  # the validation pairs, where they are evaluated
    reach: Reach | None  # of the model; None: only the loaded model tells it
    checkpoint: Path | None  # the run resumes from it
    precision: Precision
    args: DPOConfig
    made_of: dict[str, Any]  # see checkpoints.origin
    prompts: list[SamplePrompt]  # whose answers are written down


@dataclass(frozen=True)
class Loaded:
    """The policy, its reference where it needs a second copy of the weights, and what is worth saying of them."""

    policy: Any
    reference: Any
    wanted: Wanted | None  # of its adapter
    rows: Rows | None  # on a GPU, where the model's sizes are known
    notices: list[str]


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


def find_model(rank: Rank) -> tuple[Rank, Located]:
    """The model and the adapter that the training starts from, on this disk; and the rank with the experiment of that pair.

    Where only the run could know the pair, its folder gets it too.
    """
    run, roots = rank.run, rank.roots
    places: dict[str, Any] = {"first": rank.first, "waiting": rank.waiting, "commit": recorded_commit(run)}
    located = locate(rank.experiment, roots.data, roots.cache, **places)
    if rank.first and located.experiment != rank.experiment:
        with suppress(OSError):  # it is the same at the next attempt
            write_whole(run.experiment, located.experiment.model_dump_json(indent=2) + "\n")
        found = located.experiment
        run.update_record(experiment=found.model_dump(mode="json"), model_name=found.model_name)
    if rank.first and located.tokenizer != located.path:
        notices([f"the tokenizer, and its chat template, are those of the adapter {located.experiment.adapter}"])
    return replace(rank, experiment=located.experiment), located


def prepare_inputs(rank: Rank, located: Located) -> Inputs:
    """Reads the pairs and turns them into token ids; finds the checkpoint to resume from, and checks that it fits."""
    run, experiment, roots, device = rank.run, rank.experiment, rank.roots, rank.device
    h = experiment.hyperparameters
    with stage("reading the data"):
        places = {"root": roots.run, "data_root": roots.data, "cache": roots.cache}
        pairs = read_data(experiment, run, **places, first=rank.first, waiting=rank.waiting)
        others = check_recorded_data(run, pairs)
    if rank.first:
        notices(others)
    path, start = located.path, located.start
    with stage("looking for the recorded revision of the model", after=EVERY):
        path, others = rank.waiting(lambda: recorded_base(run, experiment, path))
    if rank.first:
        notices(others)
    with stage("loading the tokenizer"):
        tokenizer = rank.waiting(lambda: load_tokenizer(experiment, path, located.tokenizer))
    with stage("reading the model's configuration"):
        reach = examined(experiment, path)
    own = run.checkpoints()
    checkpoint = resume_point(run, experiment, roots.run)
    if rank.first and not own:
        run.update_record(resumed_from=None if checkpoint is None else os.path.relpath(checkpoint, roots.run))
    day = day_of_run(run, h.template_date, day_of(checkpoint), first=rank.first)
    tokens, held_out = tokenize_all(experiment, pairs, tokenizer, roots.cache, day)
    prompts = sample_prompts(experiment, pairs, tokenizer, Clock(day))
    beyond = check_reach(reach, experiment, read_from(pairs, tokens, held_out), tokenizer)
    micro = smaller(h.per_device_train_batch_size, roots.splits, remembered(checkpoint, MICRO))
    precision = choose_precision(h, cuda=device.cuda, bf16=device.bf16, is_sharded=is_sharded())
    args = arguments(experiment, run, precision, device, micro)
    experiment.check_kept(len(tokens.pairs), device.world)
    made_of = origin(experiment, tokens, held_out, device, _zero_stage(args), start)
    if rank.first:
        _say_work(rank, tokens, held_out, checkpoint, beyond, micro)
        notices(without_effect(experiment, device))
    differences = check(checkpoint, made_of) if checkpoint else []
    if rank.first:
        notices(differences)
    check_optimizer(args)
    check_schedule(args)
    return Inputs(pairs, path, start, tokenizer, tokens, held_out, reach, checkpoint, precision, args, made_of, prompts)


def tokenize_all(experiment: Experiment, pairs: Pairs, tokenizer: Any, cache: Path, day: date) -> tuple[Tokens, Tokens | None]:
    """The training pairs and, where they are evaluated, the validation pairs; raises what ``tokenize`` raises."""
    h = experiment.hyperparameters
    names = {source.role: source.name for source in pairs.sources}
    with stage(f"tokenizing {len(pairs.train) + len(pairs.validation):,} pairs"):
        place: dict[str, Any] = {"cache": cache, "day": day, "system": pairs.system}
        tokens = tokenize(pairs.train, tokenizer, h, source=names["train"], **place)
        if h.eval_strategy == "no" or not pairs.validation:
            return tokens, None
        return tokens, tokenize(pairs.validation, tokenizer, h, source=names["validation"], **place)


def _zero_stage(args: DPOConfig) -> int:
    return 0 if args.deepspeed_plugin is None else int(args.deepspeed_plugin.zero_stage)


def _say_work(
    rank: Rank, tokens: Tokens, held_out: Tokens | None, checkpoint: Path | None, beyond: list[str], micro: int
) -> None:
    experiment = rank.experiment
    steps = experiment.steps(len(tokens.pairs), rank.device.world, micro)
    work = counted(tokens, experiment.global_batch)
    if experiment.is_sft:
        rank.run.update_record(method=experiment.method)
        say("supervised warm-up (method: sft): learns the chosen answers, without a reference")
    record: dict[str, Any] = {
        "tokens": work.tokens,
        "packed": work.packed,
        "longest": work.longest,
        "longest_pairs": work.longest_pairs,
    }
    record |= {} if work.answer_tokens is None else {"answer_tokens": work.answer_tokens}
    answers = None if tokens.answers is None else asdict(tokens.answers)
    rank.run.update_record(work={"pairs": work.pairs, **record, "steps": steps, "answers": answers})
    say(
        f"{work.pairs:,} pairs, {work.tokens:,} tokens per epoch, longest sequence {work.longest:,} tokens; "
        f"{steps:,} steps of {experiment.global_batch} pairs"
    )
    notices(dict.fromkeys([*tokens.notices, *(held_out.notices if held_out else ()), *beyond]))
    if checkpoint is not None:
        step = step_of(checkpoint)
        end = "; it is the last step: nothing is left to train" if step >= steps else ""
        say(f"resumes from checkpoint-{step}: {checkpoint}{end}")
    elif experiment.hyperparameters.resume_from_checkpoint is True:
        notices(["resume_from_checkpoint: true, but this experiment has no checkpoint yet: training starts at step 1"])


def prepare_model(rank: Rank, inputs: Inputs) -> Loaded:
    """Loads the weights, and decides whether activations are recomputed."""
    h, cuda = rank.experiment.hyperparameters, rank.device.cuda
    with stage(f"loading the weights{weights_size(inputs.path)}"):
        given = (rank.experiment, inputs.path, inputs.precision, inputs.start)
        bare: list[Wanted] = []
        policy = rank.waiting(lambda: load_start(*given, cuda=cuda, look=lambda model: bare.append(Wanted.of(model, h))))
        # A second copy of the weights only where the reference moves or depends on pairs; an adapter is simply switched off.
        keeps_reference = h.full_finetuning and not inputs.args.precompute_ref_log_probs
        reference = load_start(*given, cuda=cuda) if keeps_reference else None
    found = [*check_biases(policy, h), *rounding(policy, inputs.start, inputs.precision)]
    if inputs.reach is None:
        if inputs.start is None or not inputs.start.is_continued:
            check_targets(policy, h, rank.experiment.model_name)
        data = read_from(inputs.pairs, inputs.tokens, inputs.held_out)
        found += check_reach(Reach.of(policy), rank.experiment, data, inputs.tokenizer)
    rows, said = _choose_rows(rank, inputs, policy) if cuda else (None, [])
    return Loaded(policy, reference, None if h.full_finetuning else bare[-1], rows, [*found, *said])


def _choose_rows(rank: Rank, inputs: Inputs, model: Any) -> tuple[Rows | None, list[str]]:
    """The rows that fit on every rank, and why activations are recomputed or not; a resumed run recomputes as it did before."""
    experiment, args = rank.experiment, inputs.args
    is_auto = experiment.hyperparameters.use_gradient_checkpointing == "auto"
    wants_plain = experiment.hyperparameters.dpo_path == "plain" or remembered(inputs.checkpoint, PATH) == "plain"
    packed = not wants_plain and why_plain(model, args, inputs.tokens.longest) is None
    work = counted(inputs.tokens, experiment.global_batch)
    planned = partial(plan_rows, experiment, model, work, args, packed=packed)
    before = remembered(inputs.checkpoint, CHECKPOINTING) if is_auto else args.gradient_checkpointing
    first = planned(recompute=before)
    if first is None:
        args.activation_checkpointing = args.gradient_checkpointing = True if before is None else before
        return None, [UNKNOWN] if before is None else []
    recompute = any(gather_object([first.recompute]))
    every = gather_object([planned(recompute=recompute)])
    rows = min(every, key=lambda rows: rows.tokens)  # one that fits on all
    args.activation_checkpointing = args.gradient_checkpointing = recompute
    if not is_auto:
        return rows, []
    if before is not None:
        return rows, [f"gradient checkpointing {'on' if before else 'off'}: as in the run of the checkpoint"]
    return rows, [rows.checkpointing]


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
    reference = identity if inputs.start is None else started_identity(identity, inputs.start.identity)
    return Ready(trainer, stopper, health, log, identity, reference, loaded.rows, step)


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
