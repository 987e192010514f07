"""Cautions: settings that are valid but almost never intended. They are warned about before anything is loaded. Pure."""

from __future__ import annotations

import math
from typing import Final

from ..errors import Warned
from .other_tools.trl_fields import trl_fields
from .schema import Experiment

# The slope of DiscoPOP's loss at margin 0 is (1 − ln 2) / (4 tau) − 3/4. If it is positive, training lowers the margin at first.
_TAU: Final = (1 - math.log(2)) / 3
_RATE: Final = 0.1  # Adam moves each weight by about the learning rate in each step
_ADAM: Final = ("adam", "lion")  # substrings of optimizer names whose steps have the size of the learning rate
_OWN_RATE: Final = ("schedule_free",)


def cautions(experiment: Experiment) -> tuple[Warned, ...]:
    """One warning for each such setting."""
    return tuple(Warned(one) for one in (_discopop(experiment), _rate(experiment), _half(experiment)) if one is not None)


def _discopop(experiment: Experiment) -> str | None:
    h = experiment.hyperparameters
    tau = h.trl.get("discopop_tau", trl_fields()["discopop_tau"]["default"])
    if "discopop" not in h.loss_type or tau >= _TAU:
        return None
    bound = math.ceil(_TAU * 1000) / 1000
    return (
        f"loss_type discopop with discopop_tau {tau:g} begins by making the rejected answers more likely (Lu et al., arXiv "
        f"2406.08414); set discopop_tau above {bound:g}"
    )


def _rate(experiment: Experiment) -> str | None:
    h = experiment.hyperparameters
    is_adam = any(part in h.optim for part in _ADAM) and not any(part in h.optim for part in _OWN_RATE)
    if h.learning_rate <= _RATE or not is_adam:
        return None
    exponent = math.floor(math.log10(h.learning_rate))
    meant = h.learning_rate / 10**exponent * 10.0**-exponent  # 5e5 for 5e-5
    is_likely = exponent >= 3
    takes = "full fine-tuning takes 1e-7 to 1e-4" if h.full_finetuning else "LoRA takes 1e-6 to 1e-3"
    maybe = f"; {meant:g} may be meant" if is_likely else ""
    return f"learning_rate {_written(h.learning_rate)} destroys the weights within a few steps: {takes}{maybe}"


def _half(experiment: Experiment) -> str | None:
    if experiment.hyperparameters.torch_dtype != "float16" or experiment.launch.gpus != 0:
        return None
    return "torch_dtype float16 needs a GPU, and launch.gpus is 0: the run will refuse it; set torch_dtype: auto"


def _written(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:g}"
