"""Conflicts: settings of the flat section that contradict each other, or have no effect together. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..other_tools.trl_fields import trl_fields, why_not_fast
from . import lora, model, optimizer
from .trackers import TRACKERS

if TYPE_CHECKING:
    from .hyperparameters import Hyperparameters

# Losses that read label_smoothing.
_SMOOTHED = frozenset({"sigmoid", "robust", "exo_pair", "aot", "aot_unpaired"})
# Losses on the difference of both log ratios, the only ones that f-DPO (arXiv 2309.16240) generalises.
_DIVERGENT = frozenset({"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"})


def contradictions(h: Hyperparameters) -> Iterable[tuple[str, str]]:
    """(key, rest of the sentence after it) for each conflict between settings."""
    yield from model.contradictions(h)
    if h.full_finetuning and (h.load_in_4bit or h.load_in_8bit):
        name = "load_in_4bit" if h.load_in_4bit else "load_in_8bit"
        yield "full_finetuning", f"conflicts with {name}: quantised weights cannot be trained"
    yield from lora.contradictions(h)
    if h.label_smoothing and not _SMOOTHED & set(h.loss_type):
        yield (
            "label_smoothing",
            f"has no effect with loss_type {', '.join(h.loss_type)}; use one of {', '.join(sorted(_SMOOTHED))}",
        )
    if "exo_pair" in h.loss_type and not h.label_smoothing:
        yield "loss_type", "exo_pair needs label_smoothing greater than 0 (its paper recommends 0.001)"
    yield from _contradictions_of_trl(h)
    weights = h.trl.get("loss_weights")
    if weights is not None and len(weights) != len(h.loss_type):
        yield "loss_weights", f"must have one weight per loss type: found {len(weights)} for {len(h.loss_type)}"
    strategy, steps = when_evaluated(h)
    key = needs_evaluations(h)
    if key is not None and strategy == "no":
        yield key, "needs evaluations; remove eval_strategy: no"
    elif h.load_best_model_at_end and h.save_strategy != "best":
        if h.save_strategy != strategy:
            yield "save_strategy", f"must equal eval_strategy ({strategy}) for load_best_model_at_end"
        elif h.save_strategy == "steps" and h.save_steps % (steps or h.logging_steps):
            yield "save_steps", f"must be a multiple of eval_steps ({steps or h.logging_steps}) for load_best_model_at_end"
    unknown = set(h.report_to) - {"tensorboard", *TRACKERS, "none"}
    if unknown:
        known = ", ".join(("tensorboard", *TRACKERS))
        verb = "is" if len(unknown) == 1 else "are"
        yield "report_to", f": {', '.join(sorted(unknown))} {verb} not supported; use {known} or none"


def _contradictions_of_trl(h: Hyperparameters) -> Iterable[tuple[str, str]]:
    """The same for TRL's fields: settings without effect, or impossible ones that TRL reports late or never."""
    needed = {
        "ref_model_mixup_alpha": (h.trl.get("sync_ref_model"), "sync_ref_model: true"),
        "ref_model_sync_steps": (h.trl.get("sync_ref_model"), "sync_ref_model: true"),
        "discopop_tau": ("discopop" in h.loss_type, "loss_type: discopop"),
        "f_alpha_divergence_coef": (
            h.trl.get("f_divergence_type") == "alpha_divergence",
            "f_divergence_type: alpha_divergence",
        ),
        "optim_target_modules": (any(part in h.optim for part in ("galore", "apollo")), "a GaLore or APOLLO optimizer"),
    }
    for name, (holds, wanted) in needed.items():
        if h.trl.get(name) not in (None, trl_fields()[name]["default"]) and not holds:
            yield name, f"has no effect without {wanted}"
    if h.trl.get("sync_ref_model") and not h.full_finetuning:
        yield "sync_ref_model", "needs full_finetuning: true, as the reference of an adapter is its base model"
    unfit = sorted(set(h.loss_type) - _DIVERGENT)
    if h.trl.get("f_divergence_type", "reverse_kl") != "reverse_kl" and unfit:
        yield "f_divergence_type", f"does not apply to loss_type {', '.join(unfit)}; use one of {', '.join(sorted(_DIVERGENT))}"
    if h.trl.get("use_weighting") and {"aot", "aot_unpaired"} & set(h.loss_type):
        yield "use_weighting", "conflicts with loss_type aot, which sorts the pairs"
    if h.trl.get("use_weighting") and "sft" in h.loss_type:
        yield "use_weighting", "conflicts with loss_type sft, which is one mean over all pairs of a batch"
    yield from optimizer.contradictions(h.optim, h.weight_decay, h.warmup_ratio, h.trl)
    why = why_not_fast({**h.trl, "optim": h.optim, "loss_type": h.loss_type}) if h.dpo_path == "fast" else None
    if why is not None:
        yield "dpo_path", f"must be auto or plain: {why}"
    if h.compile in ("layers", "graphs") and h.dpo_path == "plain":
        yield "compile", "must be auto or off with dpo_path: plain, which does not compile its layers"


def when_evaluated(h: Hyperparameters) -> tuple[str, int | None]:
    """The effective (``eval_strategy``, ``eval_steps``) of an experiment with validation pairs."""
    if h.eval_strategy is not None:
        return h.eval_strategy, h.eval_steps
    if h.eval_steps is not None or h.save_strategy in ("steps", "best"):
        return "steps", h.eval_steps or h.save_steps
    return "epoch", None  # also if no checkpoints are saved


def needs_evaluations(h: Hyperparameters) -> str | None:
    """The first setting that is set and needs evaluations."""
    if h.save_strategy == "best":
        return "save_strategy"
    if h.lr_scheduler_type in optimizer.BY_EVALUATIONS:
        return "lr_scheduler_type"
    return next((name for name in ("load_best_model_at_end", "early_stopping_patience") if getattr(h, name)), None)
