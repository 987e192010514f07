"""Inputs: all that a run is made of before its model is loaded, each read and checked."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from trl import DPOConfig

from launcher.data.pairs import Pairs
from launcher.experiment.schema import Experiment
from launcher.runs.whole import write_whole

from ..checkpoints.checkpoints import resume_point
from ..checkpoints.choices import other_choices
from ..checkpoints.origin import check, day_of, origin
from ..checkpoints.remembered import MICRO, remembered, step_of
from ..evaluation.prompts import SamplePrompt, sample_prompts
from ..inputs.arguments import arguments, check_optimizer, check_schedule, smaller, without_effect
from ..inputs.data import read_data
from ..inputs.models.adapter_copy import keep, kept
from ..inputs.models.model import Precision, choose_precision, load_tokenizer
from ..inputs.models.skeleton import examined
from ..inputs.models.starting import Located, Start, locate
from ..inputs.recorded import check_recorded_data, recorded_base, recorded_commit
from ..inputs.tokens.clock import Clock, day_of_run
from ..inputs.tokens.reach import Reach, check_reach, read_from
from ..inputs.tokens.tokens import Tokens, tokenize
from ..output import EVERY, notices, say, stage
from ..processes.ranks.sharding import is_sharded
from ..step.memory import counted
from .rank import Rank


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


def find_model(rank: Rank) -> tuple[Rank, Located]:
    """The model and the adapter that the training starts from, on this disk; and the rank with the experiment of that pair.

    Where only the run could know the pair, its folder gets it too.
    """
    run, roots = rank.run, rank.roots
    own, said = kept(run, together=True)
    places: dict[str, Any] = {"first": rank.first, "waiting": rank.waiting, "commit": recorded_commit(run), "own": own}
    located = locate(rank.experiment, roots.data, roots.cache, **places)
    if rank.first:
        notices([*said, *([] if located.start is None else keep(run, located.start))])
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
    pairs = _pairs(rank)
    path, start = _recorded_path(rank, located.path), located.start
    with stage("loading the tokenizer"):
        tokenizer = rank.waiting(lambda: load_tokenizer(experiment, path, located.tokenizer))
    with stage("reading the model's configuration"):
        reach = examined(experiment, path)
    own = run.checkpoints()
    checkpoint = resume_point(run, experiment, roots.run, together=rank.has_own_runs)
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
    differences += other_choices(experiment, checkpoint, micro)
    if rank.first:
        notices(differences)
    check_optimizer(args)
    check_schedule(args)
    return Inputs(pairs, path, start, tokenizer, tokens, held_out, reach, checkpoint, precision, args, made_of, prompts)


def _pairs(rank: Rank) -> Pairs:
    """The pairs; where they differ from those that the run recorded, the first rank says how."""
    roots = rank.roots
    with stage("reading the data") as progress:
        places = {"root": roots.run, "data_root": roots.data, "cache": roots.cache}
        pairs = read_data(rank.experiment, rank.run, **places, first=rank.first, waiting=rank.waiting, progress=progress)
        others = check_recorded_data(rank.run, pairs)
    if rank.first:
        notices(others)
    return pairs


def _recorded_path(rank: Rank, path: str) -> str:
    """The model's path, at the revision that the run recorded."""
    with stage("looking for the recorded revision of the model", after=EVERY):
        path, others = rank.waiting(lambda: recorded_base(rank.run, rank.experiment, path))
    if rank.first:
        notices(others)
    return path


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
        f"{steps:,} step{'' if steps == 1 else 's'} of {experiment.global_batch} pairs"
    )
    notices(dict.fromkeys([*tokens.notices, *(held_out.notices if held_out else ()), *beyond]))
    if checkpoint is not None:
        step = step_of(checkpoint)
        end = "; it is the last step: nothing is left to train" if step >= steps else ""
        say(f"resumes from checkpoint-{step}: {checkpoint}{end}")
    elif experiment.hyperparameters.resume_from_checkpoint is True:
        notices(["resume_from_checkpoint: true, but this experiment has no checkpoint yet: training starts at step 1"])
