"""Which settings besides ``optim`` each optimizer of transformers reads. A test compares this table with transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_DECAY: Final = "weight_decay"  # in optim_args it is idle: transformers' groups of parameters have the setting of this name
_LOW_RANK: Final = ("rank", "update_proj_gap", "scale", "proj_type")
_ADEMAMIX: Final = ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")
_LOW_BIT: Final = ("block_size", "bf16_stochastic_round")
# Substring of an optimizer's name -> the names that it reads in optim_args; the first match counts.
ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "schedule_free": ("weight_lr_power", "r"),
    "rmsprop_bnb": (),
    "sgd": ("momentum", "dampening", _DECAY, "nesterov"),
    "adagrad": ("lr_decay", _DECAY, "eps"),
    "rmsprop": ("momentum", "alpha", "eps", _DECAY, "centered"),
    "ademamix": _ADEMAMIX,
    "anyprecision": ("use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype"),
    "galore": _LOW_RANK,
    "apollo": (*_LOW_RANK, "proj", "scale_type"),
    "grokadamw": ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
    "torch_4bit": _LOW_BIT,
    "torch_8bit": _LOW_BIT,
    "stable_adamw": ("max_lr", "kahan_sum", "decouple_lr"),
}
# Substrings of names of optimizers that ignore adam_beta1, adam_beta2 and adam_epsilon.
WITHOUT_ADAM: Final = ("adafactor", "sgd", "adagrad", "rmsprop", "galore", "lomo", "grokadamw")
# Parts of the names of optimizers that transformers gives groups of parameters without weight_decay: their own default holds.
WITHOUT_DECAY: Final = ("galore", "apollo", "lomo")
_OWN_DECAY: Final[Mapping[str, float]] = {"galore_adamw_8bit": 0.01}  # a default that is not 0, by the beginning of a name
# Schedules without a warm-up -> what to use instead.
WITHOUT_WARMUP: Final[Mapping[str, str]] = {
    "constant": "constant_with_warmup",
    "reduce_lr_on_plateau": "another lr_scheduler_type",
    "greedy": "another lr_scheduler_type",
}
BY_EVALUATIONS: Final = ("reduce_lr_on_plateau", "greedy")  # schedules that follow an evaluation metric


def arguments_of(optim: str) -> tuple[str, ...]:
    """The names that ``optim`` reads in ``optim_args``."""
    return next((names for part, names in ARGUMENTS.items() if part in optim), ())


def contradictions(
    optim: str, weight_decay: float, warmup_ratio: float | None, trl: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """(key, rest of the sentence after it) for settings that ``optim`` would ignore or misread."""
    given, known = trl.get("optim_args"), arguments_of(optim)
    if given and not known:
        yield "optim_args", f"has no effect without an optimizer that reads it ({optim} does not)"
    elif given:
        parts = [part.split("=") for part in str(given).replace(" ", "").split(",")]
        if any(len(part) != 2 for part in parts):
            yield "optim_args", f"must be written name=value, name=value; found {given!r}"
        elif unknown := [part[0] for part in parts if part[0] not in known]:
            reads = ", ".join(name for name in known if name != _DECAY)
            yield "optim_args", f"has {', '.join(unknown)}, which {optim} does not read; it reads {reads}"
        elif _DECAY in (part[0] for part in parts):
            yield "optim_args", f"has {_DECAY}, which {optim} does not take from there; use weight_decay"
    if any(part in optim for part in WITHOUT_DECAY):
        own = next((value for name, value in _OWN_DECAY.items() if optim.startswith(name)), 0.0)
        if weight_decay != own:
            yield "weight_decay", f"is always {own:g} with optim: {optim}" if own else f"has no effect with optim: {optim}"
    for name, default in (("adam_beta1", 0.9), ("adam_beta2", 0.999), ("adam_epsilon", 1e-8)):
        is_left_out = any(part in optim for part in WITHOUT_ADAM) or (name == "adam_epsilon" and "lion" in optim)
        if is_left_out and trl.get(name, default) != default:
            yield name, f"has no effect with optim: {optim}"
    if warmup_ratio and not trl.get("warmup_steps") and "schedule_free" in optim and "radam" not in optim:
        yield "warmup_ratio", f"is no share of the steps with optim: {optim}; use warmup_steps"
