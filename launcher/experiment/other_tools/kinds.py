"""Recognises experiments of other tools in the same file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .method import DPO, SFT
from .other_names import spelt

# kind -> keys that only its experiments have
_KEYS: Final[Mapping[str, str]] = {
    "GRPO": "reward_funcs reward_functions reward_weights num_generations grpo_config",
    "SFT": "completion_only_loss assistant_only_loss train_on_responses_only sft_config",
    "KTO": "desirable_weight undesirable_weight kto_config",
    "ORPO": "orpo_alpha orpo_config",
    "PPO": "ppo_config reward_model reward_model_path",
}
# keys whose value names a kind
_SAYS: Final = frozenset(
    ("trainer", "trainer_type", "training_type", "training_method", "stage", "task", "method", "rl", "rlhf_type")
)
_KINDS: Final = frozenset(
    ("sft", "grpo", "gspo", "dapo", "kto", "orpo", "simpo", "cpo", "ppo", "rloo", "rm", "reward", "pt", "pretrain", "bco", "gkd")
)
_MAPPING: Final = re.compile(r"(?P<kind>[a-z]+)_column_mapping(_config)?")
_OURS: Final = ("dpo_column_mapping_config", "dpo_column_mapping")
_BY_KEY: Final = {name: kind for kind, names in _KEYS.items() for name in names.split()}


def other_kind(data: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """The kind of an experiment that is not for this tool, and the path of the key that shows it; None for DPO or SFT here.

    >>> other_kind({"experiment_id": 1, "hyperparameters": {"num_generations": 8}})
    ('GRPO', ('hyperparameters', 'num_generations'))
    """
    if any(key in data for key in _OURS) or data.get("method") in (DPO, SFT):
        return None
    for above in ((), ("hyperparameters",)):
        values = data.get(above[0]) if above else data
        for key, value in values.items() if isinstance(values, Mapping) else ():
            kind = _kind(str(key), value)
            if kind is not None:
                return kind, (*above, str(key))
    return None


def _kind(key: str, value: Any) -> str | None:
    name = spelt(key)
    if value in (None, False, "", 0, [], {}):  # an empty key sets nothing
        return None
    if name in _BY_KEY:
        return _BY_KEY[name]
    if name in _SAYS and isinstance(value, str) and spelt(value).removesuffix("_trainer").removesuffix("trainer") in _KINDS:
        return spelt(value).removesuffix("trainer").removesuffix("_").upper()
    mapping = _MAPPING.fullmatch(name)
    return mapping["kind"].upper() if mapping is not None and mapping["kind"] in _KINDS else None
