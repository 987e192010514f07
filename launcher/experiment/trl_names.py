"""The names of TRL's ``DPOConfig``: which are accepted, which this project decides itself, and of what type they are."""

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

# Fields of TRL's DPOConfig that this project decides itself, and what to write instead.
REFUSED: Mapping[str, str] = {
    "output_dir": "write model_output_dir",
    "max_length": "write max_seq_length",
    "gradient_checkpointing": "write use_gradient_checkpointing",
    "gradient_checkpointing_kwargs": "write use_gradient_checkpointing",
    "activation_checkpointing": "write use_gradient_checkpointing",
    "activation_checkpointing_kwargs": "write use_gradient_checkpointing",
    "bf16": "16-bit is chosen by the device; write load_in_16bit",
    "fp16": "16-bit is chosen by the device; write load_in_16bit",
    "bf16_full_eval": "16-bit is chosen by the device; write load_in_16bit",
    "fp16_full_eval": "16-bit is chosen by the device; write load_in_16bit",
    "use_cpu": "write launch.gpus: 0",
    "no_cuda": "write launch.gpus: 0",
    "local_rank": "write launch.gpus and launch.nodes",
    "deepspeed": "write launch.parallelism",
    "fsdp": "write launch.parallelism",
    "fsdp_config": "write launch.parallelism",
    "parallelism_config": "write launch.parallelism",
    "accelerator_config": "write launch.parallelism",
    "auto_find_batch_size": "write per_device_train_batch_size",
    "padding_free": "write dpo_path",
    "use_liger_kernel": "write dpo_path",
    "liger_kernel_config": "write dpo_path",
    "precompute_ref_log_probs": "the trainer decides it; leave it out",
    "precompute_ref_batch_size": "the trainer decides it; leave it out",
    "model_init_kwargs": "write load_in_4bit, load_in_8bit, load_in_16bit or trust_remote_code",
    "truncation_mode": "answers are cut at their end (TRL's keep_start); leave it out",
    "label_smoothing_factor": "write label_smoothing",
    "pad_token": "the tokenizer's own is used; leave it out",
    "remove_unused_columns": "the trainer decides it; leave it out",
    "label_names": "the trainer decides it; leave it out",
    "include_for_metrics": "the trainer decides it; leave it out",
    "disable_tqdm": "the launcher draws the progress; leave it out",
    "run_name": "write --name on the command line",
    "logging_dir": "TensorBoard's events are in the run folder's logs_tensorboard",
    "do_train": "leave it out",
    "do_eval": "write eval_strategy",
    "do_predict": "leave it out",
    "ignore_data_skip": "a resumed run never sees a pair twice; leave it out",
    "save_only_model": "a checkpoint holds all that a resume needs; leave it out",
    "restore_callback_states_from_checkpoint": "the trainer decides it; leave it out",
    "enable_jit_checkpoint": "a stop request always writes a checkpoint; leave it out",
    "project": "leave it out",
    "push_to_hub": "write storage_config",
    "hub_token": "write storage_config; HF_TOKEN is read from the environment",
    **{f"hub_{x}": "write storage_config" for x in ("model_id", "strategy", "private_repo", "always_push", "revision")},
    **{f"trackio_{x}": "write report_to" for x in ("space_id", "bucket_id", "static_space_id")},
}


@cache
def trl_fields() -> Mapping[str, Any]:
    """The fields of TRL's ``DPOConfig``, as ``python -m trainer.inputs.trl_fields`` writes them.

    Each name has {"types": [...], "default": ...}, and "choices": [...] where a text is one of a few.
    """
    fields = json.loads(Path(__file__).with_name("trl_fields.json").read_text())
    return MappingProxyType(fields["fields"])


def trl_error(key: str, value: object, own: Iterable[str]) -> PydanticCustomError | None:
    """What is wrong with ``key: value`` as a field of ``DPOConfig``; ``own`` are this project's keys, for the nearest name."""
    if key in REFUSED:
        return PydanticCustomError("refused", "is decided by this project: {instead}", {"instead": REFUSED[key]})
    if key not in trl_fields():
        known = [*own, *(name for name in trl_fields() if name not in REFUSED)]
        return PydanticCustomError("unknown_key", "unknown key", {"nearest": nearest(key, known)})
    types = trl_fields()[key]["types"]
    if not _fits(value, types):
        return PydanticCustomError("trl_type", "{expected}", {"expected": " or ".join(_WORDS[t] for t in types)})
    return choice_error(key, value)


def choice_error(key: str, value: object) -> PydanticCustomError | None:
    """What is wrong with a text where transformers knows only some."""
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
