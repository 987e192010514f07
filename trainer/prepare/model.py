"""The model: its loaded weights, and how much of its memory a step may take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate.utils import gather_object

from launcher.planning.rows import Rows

from ..checkpoints.remembered import CHECKPOINTING, PATH, remembered
from ..inputs.models.adapter import check_biases
from ..inputs.models.model import weights_size
from ..inputs.models.start_model import load_start, rounding
from ..inputs.models.targets import Wanted, check_targets
from ..inputs.tokens.reach import Reach, check_reach, read_from
from ..output import stage
from ..step.memory import UNKNOWN, counted, plan_rows
from ..step.packed import why_plain
from .inputs import Inputs
from .rank import Rank


@dataclass(frozen=True)
class Loaded:
    """The policy, its reference where it needs a second copy of the weights, and what is worth saying of them."""

    policy: Any
    reference: Any
    wanted: Wanted | None  # of its adapter
    rows: Rows | None  # on a GPU, where the model's sizes are known
    notices: list[str]


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
