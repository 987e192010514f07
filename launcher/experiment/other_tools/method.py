"""Method: DPO or SFT, the settings that only one of them reads, and methods of other tools. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .other_names import spelt

DPO: Final = "dpo"
SFT: Final = "sft"

# Settings that only DPO reads: ours, then TRL's.
OF_DPO: Final = ("beta", "loss_type", "label_smoothing")
OF_DPO_IN_TRL: Final = (
    "loss_weights", "f_divergence_type", "f_alpha_divergence_coef", "discopop_tau", "ld_alpha", "use_weighting",
    "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps",
)  # fmt: skip
# Learning rates that TRL recommends for SFT: its default for full fine-tuning, ten times that for an adapter.
RATE_OF_SFT: Final = 2e-5
RATE_OF_SFT_WITH_ADAPTER: Final = 2e-4

_REWARD: Final = "learns from a reward function"
_MODEL: Final = "learns from a reward model"
_NO_REFERENCE: Final = "learns from preferences without a reference model"
_MARKS: Final = "learns from single answers that are marked good or bad"
_LEARNS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("grpo", "gspo", "dapo", "rloo"), _REWARD),
    **dict.fromkeys(("ppo", "online_dpo", "xpo", "nash_md"), _MODEL),
    **dict.fromkeys(("orpo", "simpo", "cpo"), _NO_REFERENCE),
    **dict.fromkeys(("kto", "bco"), _MARKS),
    **dict.fromkeys(("rm", "reward", "prm"), "trains a reward model"),
    **dict.fromkeys(("gkd", "minillm"), "learns from a teacher model"),
    **dict.fromkeys(("pt", "pretrain"), "learns from plain text"),
}


def refused(method: str) -> str | None:
    """Why ``method`` is not supported, in a sentence that explains it; None for an unknown name.

    >>> refused("grpo")
    'grpo learns from a reward function; dpo-launcher trains on preferences: use dpo'
    """
    name = spelt(method)
    if name in ("pt", "pretrain"):
        return f"{name} {_LEARNS[name]}; dpo-launcher trains on answers to prompts: use sft"
    return f"{name} {_LEARNS[name]}; dpo-launcher trains on preferences: use dpo" if name in _LEARNS else None


def idle(hyperparameters: Mapping[str, Any]) -> list[str]:
    """The keys of a section of the file that have no effect with ``method: sft``."""
    return [name for name in hyperparameters if name in (*OF_DPO, *OF_DPO_IN_TRL)]
