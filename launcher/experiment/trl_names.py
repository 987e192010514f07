"""The names of TRL's ``DPOConfig``: which are accepted, which are refused, and their types."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_core import PydanticCustomError

from ..errors import nearest

# Fields of TRL's DPOConfig that have another name here -> that name.
_RENAMED: Mapping[str, str] = {
    "output_dir": "model_output_dir",
    "max_length": "max_seq_length",
    **dict.fromkeys(("gradient_checkpointing", "gradient_checkpointing_kwargs"), "use_gradient_checkpointing"),
    **dict.fromkeys(("activation_checkpointing", "activation_checkpointing_kwargs"), "use_gradient_checkpointing"),
    "use_cpu": "launch.gpus: 0",
    "no_cuda": "launch.gpus: 0",
    "local_rank": "launch.gpus and launch.nodes",
    **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config"), "launch.parallelism"),
    **dict.fromkeys(("parallelism_config", "accelerator_config"), "launch.parallelism"),
    "auto_find_batch_size": "per_device_train_batch_size",
    **dict.fromkeys(("padding_free", "use_liger_kernel", "liger_kernel_config"), "dpo_path"),
    "label_smoothing_factor": "label_smoothing",
    "run_name": "--name on the command line",
    "do_eval": "eval_strategy",
    "push_to_hub": "storage_config",
    **{f"hub_{x}": "storage_config" for x in ("model_id", "strategy", "private_repo", "always_push", "revision")},
    **{f"trackio_{x}": "report_to" for x in ("space_id", "bucket_id", "static_space_id")},
}
# Fields that this project sets or does not support -> the end of the sentence that begins with the field's name.
_SET: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "fp16", "bf16_full_eval", "fp16_full_eval"), "follows the device; remove it, or use load_in_16bit"),
    **dict.fromkeys(("precompute_ref_log_probs", "precompute_ref_batch_size"), "is set by the trainer; remove it"),
    **dict.fromkeys(("remove_unused_columns", "label_names"), "is set by the trainer; remove it"),
    **dict.fromkeys(("include_for_metrics", "restore_callback_states_from_checkpoint"), "is set by the trainer; remove it"),
    "model_init_kwargs": "is not supported; use load_in_4bit, load_in_8bit, load_in_16bit or trust_remote_code",
    "truncation_mode": "is fixed: answers are cut at their end (TRL's keep_start); remove it",
    "pad_token": "is fixed: the tokenizer's own; remove it",
    "disable_tqdm": "is not supported: the launcher draws the progress bar; remove it",
    "logging_dir": "is fixed: TensorBoard's events are in the run folder's logs_tensorboard; remove it",
    **dict.fromkeys(("do_train", "do_predict", "project"), "has no effect; remove it"),
    "ignore_data_skip": "is fixed: a resumed run never trains on a pair twice; remove it",
    "save_only_model": "is fixed: a checkpoint holds everything that a resume needs; remove it",
    "enable_jit_checkpoint": "is fixed: a stop request always writes a checkpoint; remove it",
    "hub_token": "is not supported; use storage_config (HF_TOKEN is read from the environment)",
}
# Fields of TRL's DPOConfig that are refused -> the sentence that tells what to do.
REFUSED: Mapping[str, str] = {
    **{name: f"use {ours} (this project's name for {name})" for name, ours in _RENAMED.items()},
    **{name: f"{name} {rest}" for name, rest in _SET.items()},
}


@cache
def trl_fields() -> Mapping[str, Any]:
    """The fields of TRL's ``DPOConfig``, as ``python -m trainer.inputs.trl_fields`` writes them.

    Each name has {"types": [...], "default": ...}, and "choices": [...] where only a few texts are valid.
    """
    fields = json.loads(Path(__file__).with_name("trl_fields.json").read_text())
    return MappingProxyType(fields["fields"])


def trl_error(key: str, value: object, own: Iterable[str]) -> PydanticCustomError | None:
    """The error of ``key: value`` as a field of ``DPOConfig``, or None; ``own``: this project's keys, for the nearest name."""
    if key in REFUSED:
        return PydanticCustomError("refused", "{sentence}", {"sentence": REFUSED[key]})
    if key not in trl_fields():
        known = [*own, *(name for name in trl_fields() if name not in REFUSED)]
        return PydanticCustomError("unknown_key", "unknown key", {"nearest": nearest(key, known)})
    types = trl_fields()[key]["types"]
    if not _fits(value, types):
        return PydanticCustomError("trl_type", "{expected}", {"expected": " or ".join(_WORDS[t] for t in types)})
    return choice_error(key, value)


def choice_error(key: str, value: object) -> PydanticCustomError | None:
    """The error of a text that transformers does not accept for ``key``, or None."""
    choices = trl_fields()[key].get("choices", [])
    if not choices or not isinstance(value, str) or value in choices:
        return None
    some = sorted(choices, key=lambda choice: choice != trl_fields()[key]["default"])[:_SHOWN]
    expected = f"one of {', '.join(some)}{f' … ({len(choices)} in all)' if len(choices) > _SHOWN else ''}"
    return PydanticCustomError("trl_choice", "{expected}", {"expected": expected, "nearest": nearest(value, choices)})


_SHOWN = 12  # choices in a message


_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "null": "null",
}


def _fits(value: object, types: Iterable[str]) -> bool:
    kinds: dict[str, bool] = {
        "null": value is None,
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        "str": isinstance(value, str),
        "list": isinstance(value, list | tuple),
        "dict": isinstance(value, Mapping),
    }
    return any(kinds[kind] for kind in types)
