"""Keys of other tools at a value that changes nothing here: accepted, dropped, and listed in one notice. Pure.

At any other value the key is a mistake, which ``other_names`` explains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from ...errors import nearest
from .other_names import meaning, spelt
from .trl_fields import REFUSED, trl_fields

ANY: Final = "any value"

# values that change nothing -> the keys. A null key that resembles none of ours is neutral, too, see _is_neutral.
_NEUTRAL: Final[tuple[tuple[tuple[Any, ...], str], ...]] = (
    (
        (False,),
        "packing sample_packing neat_packing eval_packing fast_inference use_vllm generate_during_eval float8_kv_cache "
        "unsloth_vllm_standby dora rslora fan_in_fan_out inference_mode ensure_weight_tying "
        "finetune_vision_layers freeze_vision_tower is_encoder_decoder reference_free force_use_ref_model use_wandb "
        "group_by_length use_exact_model_name auto_find_batch_size disable_tqdm do_predict enable_jit_checkpoint "
        "hub_always_push hub_private_repo ignore_data_skip no_cuda padding_free precompute_ref_log_probs push_to_hub "
        "remove_unused_columns restore_callback_states_from_checkpoint save_only_model save_on_each_node logging_nan_inf_filter "
        "use_cpu use_liger_kernel bf16_full_eval fp16_full_eval",
    ),
    (
        (True,),
        "use_peft use_lora finetune_language_layers finetune_attention_modules finetune_mlp_modules do_train "
        "use_fast_tokenizer save_safetensors fix_tokenizer eval_on_start skip_memory_metrics do_eval lora_target_linear "
        "target_linear",
    ),
    (("auto", True), "bf16"),
    (("auto",), "dtype device_map fp16 flash_attn"),
    (("CAUSAL_LM", "TaskType.CAUSAL_LM"), "task_type"),
    (("LORA", "PeftType.LORA"), "peft_type"),
    (("lora",), "finetuning_type tuner_type train_type"),
    (("dpo",), "trainer trainer_type training_type training_method stage task rl rlhf_type"),
    (("main",), "revision model_revision"),
    (("keep_start",), "truncation_mode"),
    ((0,), "val_size val_set_size split_dataset_ratio label_smoothing_factor rpo_alpha loraplus_lr_ratio"),
    ((-1,), "local_rank"),
    ((-100,), "label_pad_token_id"),
    (
        ("", (), {}),
        "loftq_config image_columns images fsdp fsdp_config "
        "deepspeed model_init_kwargs include_for_metrics label_names wandb_project wandb_entity wandb_name wandb_watch "
        "wandb_log_model run_name hub_model_id debug",
    ),
    ((None,), "padding_value dataset_kwargs token"),
    (
        (ANY,),
        "dataset_text_field overwrite_output_dir overwrite_cache plot_loss preprocessing_num_workers num_proc max_lora_rank "
        "dataset_prepared_path tokenized_path load_from_cache_file strict",
    ),
)
_VALUES: Final = {name: values for values, names in _NEUTRAL for name in names.split()}
NAMES: Final = tuple(_VALUES)
_SECTIONS: Final = ("hyperparameters", "launch", "health")  # sections whose keys may all be commented out
# Values of storage_config that change nothing without an upload.
_NO_STORE: Final = {
    "provider": ("local", "none", "disk", "", None),
    **dict.fromkeys(("bucket_name", "endpoint_url", "region"), ("",)),
}


def without_neutral(section: str, values: Any, own: Collection[str]) -> Any:
    """``values`` of a section without its neutral keys (section "": the experiment itself). Values that are no mapping are
    returned as they are. ``own``: the keys that the section knows.
    """
    if not isinstance(values, Mapping):
        return values
    left_out = set(neutral_keys(section, values, own))
    return {key: value for key, value in values.items() if key not in left_out}


def accepted(name: str) -> str | None:
    """The value at which the key ``name`` is accepted, in words; None if there is none."""
    values = _VALUES.get(spelt(name))
    return None if values is None else _shown(values[0])


def neutral_keys(section: str, values: Mapping[str, Any], own: Collection[str]) -> Iterator[str]:
    """The neutral keys of a section of the file. ``own``: the keys that the section knows."""
    stays = section == "storage_config" and str(values.get("upload_to_cloud") or False).lower() in ("no", "off", "false", "0")
    for key, value in values.items():
        is_unused = stays and _is_one_of(value, _NO_STORE.get(key, ()))
        if is_unused or (isinstance(key, str) and _is_neutral(section, key, value, own)):
            yield key


def _is_neutral(section: str, key: str, value: Any, own: Collection[str]) -> bool:
    if (section, key) == ("storage_config", "object_prefix"):
        return value is None
    if section == "hyperparameters" and key in trl_fields() and key not in REFUSED:
        return False  # it has a meaning
    if value is None and key != "max_length":  # TRL: no limit
        is_named = key in REFUSED or meaning(section, key) is not None or (section == "" and key in _SECTIONS)
        names = {*own, *(trl_fields() if section == "hyperparameters" else ())}
        return is_named or (key not in names and nearest(key, names) is None)  # it may be one of ours, or a misspelt one
    return _is_one_of(value, _VALUES.get(spelt(key), ()))


def _is_one_of(value: Any, values: Iterable[Any]) -> bool:
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    wanted = value.strip().lower() if isinstance(value, str) else value
    return any(
        one is ANY or (type(one) is type(value) and (one.lower() if isinstance(one, str) else one) == wanted) for one in values
    )


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value == "" else str(value)
