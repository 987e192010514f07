"""The straight line of one rank: inputs -> model -> trainer -> path -> training -> adapter -> upload."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.utils.logging import disable_progress_bar

from launcher.errors import Stopped, Warned
from launcher.experiment.other_tools.trl_fields import Fate, ignored
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.trackers import TRACKERS
from launcher.planning.rows import idle_batch
from launcher.runs.run_dir import ASIDE, RunDir

from .card.base import Base, name_base
from .card.card import write_card
from .checkpoints.checkpoints import publish, save_verified
from .checkpoints.joined import compare_joined, join_adapters
from .checkpoints.kept_reference import kept_logps
from .checkpoints.remembered import BUDGETS, COMPILED, PATH, remembered
from .evaluation.ending import evaluate
from .evaluation.samples import Sampler
from .evaluation.suspects import LEAST, look
from .inputs.bucket import check_upload, upload_adapter
from .inputs.models.adapter import module_names
from .inputs.models.model import load_model
from .output import notices, say, stage
from .prepare.copies import mirrored
from .prepare.inputs import Inputs, find_model, prepare_inputs
from .prepare.model import prepare_model
from .prepare.rank import Rank, Roots, before_first_step
from .prepare.trainer import Ready, prepare_trainer
from .processes.ranks import roll_call
from .processes.ranks.join import join
from .processes.ranks.machine import Device, versions
from .processes.ranks.peers import Peers
from .processes.ranks.sharding import stage as zero_stage
from .processes.stop import StopRequest
from .step.choosing.choice import Choice, choose_path, rounding, take_path
from .step.choosing.layers import Work, choose_layers
from .step.dpo import DPOTrainer, Interrupted
from .step.loss.first import causes, expected, is_fresh
from .summary import final_metrics, logged_at_start, saved_step, summarise
from .trackers import Trackers, check_installed, check_key

__all__ = ["Roots", "train"]


def train(
    run: RunDir, experiment: Experiment, roots: Roots, stop: StopRequest, *, attempt: int, peers: Peers | None = None
) -> None:
    """Trains ``experiment`` into ``run``; raises a LauncherError whose exit code names any other ending."""
    rank = _join(run, experiment, roots, stop, attempt)
    if run.adapter.exists():  # an earlier attempt trained and verified it, and could not upload it
        return _upload(rank)
    if rank.first:
        check_upload(experiment, run)
    rank, located = find_model(rank)
    inputs = prepare_inputs(rank, located)
    rank.stop_if_asked(inputs.checkpoint)
    loaded = prepare_model(rank, inputs)
    ready = prepare_trainer(rank, inputs, loaded)
    rank.stop_if_asked(inputs.checkpoint)
    _path(rank, inputs, ready)
    rank.stop_if_asked(inputs.checkpoint)
    sampler = _sampler(rank, inputs, ready)
    with _tracked(rank, ready), mirrored(rank, ready.trainer):
        seconds = _training(inputs, ready, peers)
        _adapter(rank, inputs, ready, sampler, seconds)
    return _upload(rank)


def _join(run: RunDir, experiment: Experiment, roots: Roots, stop: StopRequest, attempt: int) -> Rank:
    """Takes this rank's device, and meets the other ranks."""
    check_installed(experiment.hyperparameters.report_to)
    rank = Rank(run, experiment, roots, stop, attempt, Device.here(experiment.hyperparameters.gpu_memory_utilization))
    roll_call.device(rank.device.name)
    disable_progress_bar()
    with stage("waiting for the other ranks"):
        join(run, experiment, rank.device)
    if rank.first:
        check_key(experiment.hyperparameters.report_to)
        run.update_record(packages=versions(), hardware=rank.device.hardware())
    return rank


def _path(rank: Rank, inputs: Inputs, ready: Ready) -> None:
    """Chooses the fast or the plain path, computes the reference, and tells the trainer what its checkpoints are made of."""
    trainer, checkpoint = ready.trainer, inputs.checkpoint
    wanted = rank.experiment.hyperparameters.dpo_path
    with stage("comparing the fast path with TRL's"):
        kept = (remembered(checkpoint, PATH), remembered(checkpoint, BUDGETS))
        choice = choose_path(trainer, wanted, inputs.tokens, *kept, ready.rows)
    if rank.first:
        say(choice.sentence)
        if choice.rows is not None:
            say(choice.rows)
            notices(filter(None, [idle_batch(rank.experiment)]))
        notices(ignored(rank.experiment.hyperparameters.trl, Fate.BATCHES) if choice.path == "fast" else [])
        rank.run.update_record(dpo_path={"path": choice.path, "sentence": choice.sentence, "row_tokens": choice.budget})
    choice = _layers(rank, inputs, trainer, choice)
    names = {source.role: source.name for source in inputs.pairs.sources}
    held_out = [] if inputs.held_out is None else [(names["validation"], inputs.held_out)]
    data = [(names["train"], inputs.tokens), *held_out]
    try:
        numbers = partial(kept_logps, checkpoint, inputs.made_of)
        key = take_path(trainer, choice, inputs.precision, ready.reference, data, rank.roots.cache, numbers)
        if checkpoint is None and trainer.has_reference:
            _watch_first_step(inputs, ready, choice)
    except Interrupted:
        raise Stopped(f"{before_first_step(checkpoint)}; computed reference log-probabilities stay in the cache") from None
    trainer.origin = {**inputs.made_of, "base_model": ready.identity, "reference": key}


def _layers(rank: Rank, inputs: Inputs, trainer: DPOTrainer, choice: Choice) -> Choice:
    """Compiles the decoder layers where the experiment and the estimate want it."""
    wanted, before = rank.experiment.hyperparameters.compile, None
    if inputs.checkpoint is not None:
        before = remembered(inputs.checkpoint, COMPILED) or False  # a run of an earlier version had none
    steps = rank.experiment.steps(len(inputs.tokens.pairs), rank.device.world, trainer.args.per_device_train_batch_size)
    with stage("compiling the decoder layers"):
        is_looked_at = (
            trainer.has_reference and len(inputs.tokens.pairs) >= LEAST
        )  # a run ends with a look at its training pairs, without gradients
        work = Work(steps, has_evaluations=inputs.held_out is not None or is_looked_at)
        choice, sentence = choose_layers(trainer, choice, wanted, inputs.tokens, work, before)
    if rank.first:
        if isinstance(sentence, Warned):
            notices([sentence])
        elif sentence is not None:
            say(sentence)
        layers = {"compiled": choice.is_compiled, "graphs": choice.graphs is not None, "sentence": sentence}
        rank.run.update_record(layers=layers)
    return choice


def _watch_first_step(inputs: Inputs, ready: Ready, choice: Choice) -> None:
    """Policy and reference are equal before the first step: what it must show is known, whatever is logged."""
    trainer, pairs = ready.trainer, inputs.tokens.pairs
    args, fresh = trainer.args, is_fresh(trainer.model)
    answers = pairs.lengths[:, 1:]
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    noise = rounding(trainer, choice, inputs.tokens)
    known = expected(args, noise, (max(1, int(answers.min())), int(answers.max())), min(batch, len(pairs)))
    trainer.on_first_step = partial(
        ready.health.check_first, known, lambda: causes(trainer.model, args, fresh=fresh, is_continued=trainer.is_continued)
    )


def _sampler(rank: Rank, inputs: Inputs, ready: Ready) -> Sampler:
    """What writes the sample answers; it has those of the base model where the training will replace its weights."""
    sampler = Sampler(rank.run, rank.experiment.samples, inputs.prompts, inputs.tokenizer, ready.log, ready.health)
    sampler.before(ready.trainer)
    for callback in sampler.callbacks(ready.trainer):
        ready.trainer.add_callback(callback)
    return sampler


@contextmanager
def _tracked(rank: Rank, ready: Ready) -> Iterator[None]:
    """Reports to the trackers that the experiment names, until this ends."""
    names = set(rank.experiment.hyperparameters.report_to) & set(TRACKERS)
    if not names or not rank.first:
        yield
        return
    with stage(f"starting {', '.join(sorted(names))}"):
        trackers = Trackers(sorted(names), rank.run)
    ready.trainer.add_callback(trackers)
    try:
        yield
    except BaseException:
        trackers.close(failed=True)
        raise
    trackers.close(failed=False)


def _training(inputs: Inputs, ready: Ready, peers: Peers | None) -> float:
    """Trains to the last step; returns the seconds that took. Raises Stopped where a stop came before it."""
    trainer, began = ready.trainer, time.monotonic()
    with ExitStack() as stack:
        trainer.add_callback(FirstStep(stack))
        _run(trainer, inputs, peers)
    seconds = time.monotonic() - began
    step, last = trainer.state.global_step, trainer.state.max_steps
    ready.health.raise_if_stopped(step, last)
    if trainer.was_cut or (ready.stopper.stopped and step < last):
        raise Stopped(f"stopped at step {step} of {last}: resumes from checkpoint-{step}")
    return seconds


def _run(trainer: DPOTrainer, inputs: Inputs, peers: Peers | None) -> None:
    """Raises MemoryShortage where no shorter row helps, Stopped where the evaluation before the first step was cut short."""
    if peers is not None:
        trainer.add_callback(peers.callback())
    try:
        trainer.try_longest()
        trainer.train(resume_from_checkpoint=str(inputs.checkpoint) if inputs.checkpoint else None)
    except Interrupted:
        raise Stopped(before_first_step(inputs.checkpoint)) from None
    except torch.OutOfMemoryError as error:
        raise trainer.shortage(error) from error


class FirstStep(TrainerCallback):
    """Names the time up to the end of the first step, in which buffers are made and kernels compiled."""

    def __init__(self, stack: ExitStack):
        self._stack = stack
        stack.enter_context(stage("starting the training"))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stack.close()


def _adapter(rank: Rank, inputs: Inputs, ready: Ready, sampler: Sampler, seconds: float) -> None:
    """Writes the adapter, reads it back, compares it, and publishes it with its figures."""
    run, trainer, log = rank.run, ready.trainer, ready.log
    after = final_metrics(trainer) if inputs.held_out else None
    with stage("writing the adapter and reading it back"):
        verified = save_verified(trainer, run)
    before = logged_at_start(run) if inputs.held_out else None
    learned: dict[str, Any] = {}
    if trainer.has_reference:  # without one an answer has no reward
        learned |= evaluate(trainer, run, inputs.held_out, inputs.pairs.columns, before) if inputs.held_out else {}
        learned |= look(trainer, run, inputs.pairs.train)
    learned["samples"] = sampler.after(trainer, saved_step(trainer))
    if log is not None:
        verified |= _joined(rank, inputs, trainer)
        summarise(run, log, trainer, (before, after), seconds, verified, learned)
        log.close()
        _describe(rank, inputs)
        publish(run)
    gather_object([None])  # a rank that is done is not restarted: none may end before the adapter exists


def _joined(rank: Rank, inputs: Inputs, trainer: DPOTrainer) -> dict[str, Any]:
    """An adapter that was trained on a merged one is published as both of them, for the plain base; nothing to do without."""
    start, h = inputs.start, rank.experiment.hyperparameters
    if start is None or start.is_continued or h.full_finetuning:
        return {}
    folder = rank.run.path / ASIDE
    with stage("joining the adapter with the merged one"):
        found = join_adapters(folder, start, module_names(trainer.model))
        rank.run.update_record(adapter={**rank.run.read_record()["adapter"], **found})
        if zero_stage(trainer) == 3:
            notices(["the joined adapter was not compared with the trained model: ZeRO-3 spreads the weights over the ranks"])
            return found
        try:
            base = load_model(rank.experiment, inputs.path, inputs.precision, cuda=rank.device.cuda)
            compared, said = compare_joined(trainer, base, folder, is_quantized=bool(h.load_in_4bit or h.load_in_8bit))
        except torch.OutOfMemoryError:
            notices([Warned("the joined adapter was not compared with the trained model: no memory for a second one")])
            return found
    notices(said)
    return found | compared


def _describe(rank: Rank, inputs: Inputs) -> None:
    """Names the base model in the files of the adapter, and writes its model card."""
    with stage("writing the model card"):
        base = Base.of(rank.experiment, inputs.path, rank.run.read_record().get("model") or {})
        name_base(rank.run.path / ASIDE, inputs.path, rank.experiment, base)
        write_card(rank.run, rank.experiment, rank.run.path / ASIDE, base)


def _upload(rank: Rank) -> None:
    if rank.first:
        upload_adapter(rank.experiment, rank.run)
