"""Tools: which tool a config is of, and the defaults that it counts on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .method import DPO, SFT

_LORA: Final = ("lora", "qlora")


@dataclass(frozen=True)
class Tool:
    """``marks``: keys that its configs have, in one text, the first of them always; ``trains``: its method if a config names
    none; ``starts_with_lora``: it trains an adapter unless told otherwise.

    ``defaults``: our key in hyperparameters -> its default, where ours is another one; ``of_lora``: those of an adapter.
    """

    name: str
    marks: str
    trains: str
    starts_with_lora: bool
    defaults: Mapping[str, Any]
    of_lora: Mapping[str, Any]

    def has_lora(self, values: Mapping[str, Any]) -> bool:
        """Whether the config ``values`` trains an adapter."""
        if self.name == "TRL":
            return bool(values.get("use_peft"))
        named = next((values[key] for key in ("adapter", "finetuning_type", "tuner_type", "train_type") if values.get(key)), None)
        return self.starts_with_lora if named is None else named in _LORA


TOOLS: Final = (
    Tool(
        "TRL",
        "model_name_or_path dataset_name dataset_train_split dataset_test_split dataset_mixer dataset_mixture use_peft lora_r",
        DPO,
        False,
        {
            "learning_rate": 1e-6,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
        },
        {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05},
    ),
    Tool(
        "Axolotl",
        "base_model micro_batch_size sequence_len num_epochs sample_packing dataset_prepared_path val_set_size",
        SFT,
        False,
        {
            "num_train_epochs": 1,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "max_seq_length": 512,
            "lr_scheduler_type": "cosine",
        },
        {},
    ),
    Tool(
        "LLaMA-Factory",
        "model_name_or_path stage finetuning_type cutoff_len template pref_beta pref_loss dataset_dir lora_rank lora_target",
        SFT,
        True,
        {
            "learning_rate": 5e-5,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "max_seq_length": 2048,
        },
        {"r": 8},
    ),
    Tool(
        "ms-swift",
        "rlhf_type model tuner_type train_type split_dataset_ratio load_from_cache_file lora_rank attn_impl",
        DPO,
        True,
        {
            "learning_rate": 1e-5,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 16,
            "lr_scheduler_type": "cosine",
            "weight_decay": 0.1,
            "adam_beta2": 0.95,
        },
        {"learning_rate": 1e-4, "r": 8, "lora_alpha": 32, "lora_dropout": 0.05},
    ),
)


def tool_of(keys: Collection[str]) -> Tool | None:
    """The tool that most of ``keys`` are marks of; None where none has one."""
    found = ((len(set(marks) & set(keys)), tool) for tool in TOOLS if (marks := tool.marks.split())[0] in keys)
    return max(found, key=lambda one: one[0], default=(0, None))[1]
