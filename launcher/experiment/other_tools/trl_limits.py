"""Limits of TRL's numeric fields. A value outside would fail late, divide by zero, or train something else."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

_Limit = tuple[str, Callable[[Any, Any], bool], float]
_AT_LEAST_0: Final[_Limit] = ("at least 0", operator.ge, 0)
_AT_LEAST_1: Final[_Limit] = ("at least 1", operator.ge, 1)
_ABOVE_0: Final[_Limit] = ("greater than 0", operator.gt, 0)
_BELOW_1: Final[_Limit] = ("less than 1", operator.lt, 1)
_AT_MOST_1: Final[_Limit] = ("at most 1", operator.le, 1)
LIMITS: Final[Mapping[str, tuple[_Limit, ...]]] = {
    **dict.fromkeys(("adam_beta1", "adam_beta2"), (_AT_LEAST_0, _BELOW_1)),
    **dict.fromkeys(("ld_alpha", "ref_model_mixup_alpha"), (_AT_LEAST_0, _AT_MOST_1)),
    **dict.fromkeys(("adam_epsilon", "max_grad_norm", "warmup_steps", "eval_delay"), (_AT_LEAST_0,)),
    **dict.fromkeys(("neftune_noise_alpha", "router_aux_loss_coef"), (_AT_LEAST_0,)),
    "data_seed": (_AT_LEAST_0, ("less than 4294967296", operator.lt, 2**32)),
    "discopop_tau": (_ABOVE_0,),
    **dict.fromkeys(("ref_model_sync_steps", "torch_empty_cache_steps", "ddp_timeout", "ddp_bucket_cap_mb"), (_AT_LEAST_1,)),
    **dict.fromkeys(("per_device_eval_batch_size", "pad_to_multiple_of"), (_AT_LEAST_1,)),
}


def beyond(name: str, value: object) -> str | None:
    """What ``value`` of the field ``name`` must be; None if it is within the limits."""
    if name == "loss_weights" and isinstance(value, list | tuple):
        numbers = [one for one in value if isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < float("inf")]
        return None if len(numbers) == len(value) and any(numbers) else "a list of numbers of at least 0, not all of them 0"
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if name == "warmup_steps" and value > 1 and value != int(value):
        return "a whole number, or less than 1 for a share of the steps"
    return next((words for words, holds, limit in LIMITS.get(name, ()) if not holds(value, limit)), None)
