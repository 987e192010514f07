"""What happens to each field of TRL's ``DPOConfig``: one table for errors, the choice of the path, notices and docs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final


class Fate(StrEnum):
    """What happens to a field. The value is printed in the docs."""

    BOTH = "honoured"
    PLAIN = "plain path"  # any value except the default selects the plain path
    BATCHES = "honoured on the plain path, no effect on the fast path"
    NOTHING = "accepted, no effect"
    REFUSED = "refused"


@dataclass(frozen=True)
class Field:
    """``why``: the reason; for PLAIN and REFUSED a whole sentence.

    ``harmless``: values besides the default that do not need the plain path. ``refused``: invalid values -> the reason.
    """

    fate: Fate
    why: str = ""
    harmless: tuple[Any, ...] = ()
    choices: tuple[str, ...] = ()
    refused: Mapping[str, str] | None = None


_SINGLE_STEP: Final = " works with TRL's own step only"
_NO_GROUPS: Final = "is not supported: the fast path packs pairs of any length without padding; use random or sequential"

_PLAIN: Final = {
    name: Field(Fate.PLAIN, f"{name}{why}", harmless)
    for name, why, harmless in (
        ("activation_offloading", _SINGLE_STEP, ()),
        ("disable_dropout", ": false leaves dropout on: both answers would share the prompt's mask", ()),
        ("ld_alpha", " depends on the length of the other answer", ()),
        ("neftune_noise_alpha", " scales its noise by the length of the sequence", (0,)),
        ("ref_model_mixup_alpha", " belongs to sync_ref_model", ()),
        ("ref_model_sync_steps", " belongs to sync_ref_model", ()),
        ("router_aux_loss_coef", " adds an expert-balancing loss over the whole batch", (0,)),
        ("sync_ref_model", " updates the reference", ()),
        ("use_weighting", " needs values of whole sequences", ()),
    )
}


def _each(names: str, field: Field) -> dict[str, Field]:
    return dict.fromkeys(names.split(), field)


_BOTH: Final = {
    **_each("adam_beta1 adam_beta2 adam_epsilon max_grad_norm optim_args optim_target_modules", Field(Fate.BOTH)),
    **_each("lr_scheduler_kwargs warmup_steps loss_weights discopop_tau f_alpha_divergence_coef", Field(Fate.BOTH)),
    **_each("data_seed full_determinism dataloader_drop_last ddp_timeout tf32 torch_empty_cache_steps", Field(Fate.BOTH)),
    **_each("eval_delay log_level log_level_replica logging_first_step logging_strategy", Field(Fate.BOTH)),
    "f_divergence_type": Field(Fate.BOTH, choices=("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")),
    "train_sampling_strategy": Field(Fate.BOTH, refused=dict.fromkeys(("group_by_length", "batch_rebalance"), _NO_GROUPS)),
}
_BATCHES: Final = {
    "pad_to_multiple_of": Field(Fate.BATCHES, "rows have lengths of their own"),
    "per_device_eval_batch_size": Field(Fate.BATCHES, "validation pairs are packed into rows, too"),
    **_each(
        "ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph",
        Field(Fate.BATCHES, "this project adds up the gradients of all ranks itself"),
    ),
}
_NOTHING: Final = {
    **_each(
        "dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers dataloader_persistent_workers "
        "dataloader_pin_memory dataloader_prefetch_factor",
        Field(Fate.NOTHING, "the pairs are token ids in memory"),
    ),
    **_each(
        "batch_eval_metrics eval_accumulation_steps eval_do_concat_batches eval_use_gather_object prediction_loss_only",
        Field(Fate.NOTHING, "an evaluation keeps metrics, not predictions"),
    ),
    "average_tokens_across_devices": Field(Fate.NOTHING, "every pair weighs the same on every rank"),
    "dataset_num_proc": Field(Fate.NOTHING, "one process tokenizes all pairs"),
    "include_num_input_tokens_seen": Field(Fate.NOTHING, "every log line has num_tokens"),
    "length_column_name": Field(Fate.NOTHING, "pairs are never grouped by length"),
    "log_on_each_node": Field(Fate.NOTHING, "the first process alone writes the log"),
    "use_cache": Field(Fate.NOTHING, "a step computes without a cache"),
}

# Examples of fields without a default.
_EXAMPLES: Final[Mapping[str, Any]] = {
    "data_seed": 1, "dataloader_prefetch_factor": 2, "dataset_num_proc": 4, "ddp_bucket_cap_mb": 25, "eval_accumulation_steps": 8,
    "ld_alpha": 0.5, "loss_weights": [1.0, 0.5], "lr_scheduler_kwargs": {"num_cycles": 2}, "neftune_noise_alpha": 5,
    "optim_args": "rank=64, scale=0.25", "optim_target_modules": ["q_proj", "v_proj"], "router_aux_loss_coef": 0.001,
    "torch_empty_cache_steps": 50,
}  # fmt: skip

# Fields with another name here -> that name.
_RENAMED: Final[Mapping[str, str]] = {
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
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), "compile"),
    "label_smoothing_factor": "label_smoothing",
    "run_name": "--name on the command line",
    "do_eval": "eval_strategy",
    **{f"trackio_{x}": "report_to" for x in ("space_id", "bucket_id", "static_space_id")},
}
_PUSHED: Final = "is not supported during a run; publish its adapter afterwards: `launcher push RUN --to OWNER/NAME`"
# Fields that this project sets or does not support -> the sentence after the field's name.
_SET: Final[Mapping[str, str]] = {
    **dict.fromkeys(("bf16", "fp16", "bf16_full_eval", "fp16_full_eval"), "follows the device; remove it, or use torch_dtype"),
    **dict.fromkeys(("precompute_ref_log_probs", "precompute_ref_batch_size"), "is set by the trainer; remove it"),
    **dict.fromkeys(("remove_unused_columns", "label_names"), "is set by the trainer; remove it"),
    **dict.fromkeys(("include_for_metrics", "restore_callback_states_from_checkpoint"), "is set by the trainer; remove it"),
    "ddp_backend": "follows the device (nccl on GPUs, gloo on CPUs); remove it",
    "debug": "is not supported; health.not_finite names the rows behind a loss that is not finite",
    "eval_on_start": "is fixed: validation pairs are evaluated before the first step; remove it",
    "logging_nan_inf_filter": "is fixed: it hides losses that are not finite; use health.not_finite",
    "model_init_kwargs": "is not supported; use torch_dtype, attn_implementation or trust_remote_code",
    "truncation_mode": "is fixed: answers are cut at their end (TRL's keep_start); remove it",
    "pad_token": "is fixed: the tokenizer's own; remove it",
    "disable_tqdm": "is not supported: the launcher draws the progress bar; remove it",
    "logging_dir": "is fixed: TensorBoard's events are in the run folder's logs_tensorboard; remove it",
    **dict.fromkeys(("do_train", "do_predict", "project"), "has no effect; remove it"),
    "ignore_data_skip": "is fixed: a resumed run never trains on a pair twice; remove it",
    "save_on_each_node": "is fixed: all nodes share the run folder; remove it",
    "save_only_model": "is fixed: a checkpoint holds everything that a resume needs; remove it",
    "skip_memory_metrics": "is fixed: TRL's memory metrics are not logged; remove it",
    "enable_jit_checkpoint": "is fixed: a stop request always writes a checkpoint; remove it",
    **dict.fromkeys(("push_to_hub", "hub_always_push", "hub_strategy"), _PUSHED),
    **dict.fromkeys(("hub_model_id", "hub_private_repo", "hub_revision"), _PUSHED),
    "hub_token": f"{_PUSHED} (HF_TOKEN is read from the environment)",
}

# Every field of DPOConfig that is not one of our keys, and fields of older releases that existing files use.
FIELDS: Final[Mapping[str, Field]] = {
    **_BOTH,
    **_PLAIN,
    **_BATCHES,
    **_NOTHING,
    **{name: Field(Fate.REFUSED, f"use {ours} (this project's name for {name})") for name, ours in _RENAMED.items()},
    **{name: Field(Fate.REFUSED, f"{name} {rest}") for name, rest in _SET.items()},
}
# Refused fields -> what to do instead.
REFUSED: Final[Mapping[str, str]] = {name: field.why for name, field in FIELDS.items() if field.fate is Fate.REFUSED}
# Losses over a whole batch: aot sorts the pairs, sft is a mean over all tokens.
BATCHED: Final = frozenset(("aot", "aot_unpaired", "sft"))
# Optimizers that update weights during the backward pass; the fast path has several of those per step.
_IN_BACKWARD: Final = ("lomo", "layerwise")


@cache
def trl_fields() -> Mapping[str, Any]:
    """The fields of TRL's ``DPOConfig``, as ``python -m trainer.inputs.trl_fields`` wrote them.

    Name -> {"types": [...], "default": ...}, plus "choices": [...] if only a few texts are valid.
    """
    fields = json.loads(Path(__file__).with_name("trl_fields.json").read_text())
    return MappingProxyType(fields["fields"])


def trl_example(name: str) -> Any:
    """A valid value of a field of TRL, different from its default if one is known."""
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    field = trl_fields()[name]
    if "bool" in field["types"]:
        return not field["default"]
    choices = [*field.get("choices", ()), *FIELDS[name].choices]
    refused = FIELDS[name].refused or {}
    return next((one for one in choices if one != field["default"] and one not in refused), field["default"])


def why_not_fast(values: Mapping[str, Any]) -> str | None:
    """Why these values of DPOConfig need TRL's own step, in a sentence; None if the fast path honours all of them.

    A missing field has TRL's default.
    """
    batched = [name for name in values.get("loss_type", ()) if name in BATCHED]
    if batched:
        return f"loss_type {', '.join(batched)} needs the whole batch"
    for name, field in _PLAIN.items():
        default = trl_fields()[name]["default"]
        value = values.get(name, default)
        if value != default and value not in field.harmless:
            return field.why
    optim = str(values.get("optim", ""))
    if any(part in optim for part in _IN_BACKWARD):
        return f"optim: {optim} updates weights in the backward pass"
    return None


def ignored(names: Mapping[str, Any], fate: Fate) -> list[str]:
    """A sentence for each field in ``names`` without effect: NOTHING on any path, BATCHES on the fast path."""
    where = " on the fast path" if fate is Fate.BATCHES else ""
    return [f"{name} has no effect{where}: {FIELDS[name].why}" for name in names if name in FIELDS and FIELDS[name].fate is fate]
