from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from launcher.experiment.other_tools.other_names import EXPLAINED, KEYS, meaning
from launcher.experiment.other_tools.other_values import VALUES
from launcher.experiment.other_tools.trl_fields import REFUSED, trl_fields
from launcher.experiment.problems import problems
from launcher.experiment.schema import ColumnMapping, Experiment, Kubernetes, Launch, StorageConfig
from launcher.experiment.sections.hyperparameters import Hyperparameters

LEAST = {"model_name": "org/model", "datasets_path": "data"}
SECTIONS = {
    "": Experiment,
    "hyperparameters": Hyperparameters,
    "launch": Launch,
    "launch.kubernetes": Kubernetes,
    "storage_config": StorageConfig,
    "dpo_column_mapping_config": ColumnMapping,
}


def known(section: str) -> set[str]:
    keys = set(SECTIONS[section].model_fields) - {"trl"}
    return keys | (set(trl_fields()) - set(REFUSED) if section == "hyperparameters" else set())


def hint(**fields: object) -> str | None:
    with pytest.raises(ValidationError) as caught:
        Experiment.parse({**LEAST, **fields})
    (problem,) = problems(caught.value)
    return problem.hint


@pytest.mark.parametrize(
    ("section", "name", "told"),
    [
        ("hyperparameters", "lr", "use learning_rate"),
        ("hyperparameters", "lora_rank", "use r"),
        ("hyperparameters", "lora_r", "use r"),
        ("hyperparameters", "rank", "use r"),
        ("hyperparameters", "alpha", "use lora_alpha"),
        ("hyperparameters", "lora_dropout_p", "use lora_dropout"),
        ("hyperparameters", "cutoff_len", "use max_seq_length"),
        ("hyperparameters", "max_prompt_length", "not supported: hyperparameters.max_seq_length limits prompt + answer together"),
        ("hyperparameters", "micro_batch_size", "use per_device_train_batch_size"),
        ("hyperparameters", "epochs", "use num_train_epochs"),
        ("hyperparameters", "grad_accum", "use gradient_accumulation_steps"),
        ("hyperparameters", "warmup", "use warmup_ratio"),
        ("hyperparameters", "scheduler", "use lr_scheduler_type"),
        ("hyperparameters", "dpo_beta", "use beta"),
        ("hyperparameters", "pref_beta", "use beta"),
        ("hyperparameters", "quantization", "use load_in_4bit"),
        ("hyperparameters", "load_in_4_bit", "use load_in_4bit"),
        ("hyperparameters", "num_gpus", "use launch.gpus"),
        ("hyperparameters", "kto", "not a DPO loss: this tool trains by DPO and SFT"),
        ("hyperparameters", "flash_attn", "use attn_implementation"),
        ("", "slack_webhook_url", "use notify"),
        (
            "hyperparameters",
            "wandb_project",
            "set hyperparameters.report_to: [tensorboard, wandb], and WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE in launch.env",
        ),
        ("", "neptune", "not supported; use hyperparameters.report_to: tensorboard"),
        ("", "lr", "use hyperparameters.learning_rate"),
        ("", "image_columns", "images are not supported: this tool trains on text"),
        ("", "base_model", "use model_name"),
        ("", "model", "use model_name"),
        ("", "dataset", "use datasets_path"),
        ("", "data_path", "use datasets_path"),
        ("", "worksheet", "use train_sheet"),
        ("", "eval_sheet", "use validation_sheet"),
        ("", "output_dir", "use hyperparameters.model_output_dir (this project's name for output_dir)"),
        ("", "run_name", "use --name on the command line (this project's name for run_name)"),
        ("", "model_type", "the model's own configuration and tokenizer are used; remove the key"),
        ("", "max_samples", "use hyperparameters.max_steps to train on fewer pairs"),
        ("", "dataset_mixer", "an experiment has one dataset: join several into one file, and name it in train_filename"),
        ("", "saves_per_epoch", "use hyperparameters.save_steps: the steps between two checkpoints, not their number per epoch"),
        ("", "split_dataset_ratio", "use validation_split"),
        ("", "fsdp", "FSDP is not supported; use launch.parallelism: zero3"),
        ("launch", "gpu", "use gpus"),
        ("launch", "num_gpus", "use gpus"),
        ("launch", "deepspeed", "use parallelism"),
        ("launch", "k8s", "use kubernetes"),
        ("storage_config", "bucket", "use bucket_name"),
        ("storage_config", "s3_bucket", "use bucket_name"),
        ("storage_config", "endpoint", "use endpoint_url"),
        ("storage_config", "prefix", "use object_prefix"),
        ("dpo_column_mapping_config", "prompt", "use input_columns"),
        ("column_mapping_config", "preferred", "use chosen"),
    ],
)
def test_a_key_of_another_tool_is_answered_by_its_meaning(section: str, name: str, told: str) -> None:
    fields: dict[str, object] = {name: "x"}
    for part in reversed(section.split(".") if section else []):
        fields = {part: fields}
    assert hint(**fields) == told


def test_every_answer_names_a_key_that_exists() -> None:
    for section, keys in KEYS.items():
        for ours in keys:
            home, _, leaf = ours.rpartition(".") if "." in ours else (section, "", ours)
            assert leaf in known(home), f"{section}: {ours}"
    for sentence in (*EXPLAINED, *(told for values in VALUES.values() for told in values)):
        for section, key in re.findall(r"\b(hyperparameters|launch)\.(\w+)", sentence):
            assert key in known(section), sentence


def test_no_name_of_another_tool_is_one_of_ours() -> None:
    for section, keys in KEYS.items():
        names = [name for others in keys.values() for name in others.split()]
        assert known(section).isdisjoint(names), section
        assert len(names) == len(set(names)), section


def test_a_name_that_means_something_only_in_its_section_says_nothing_elsewhere() -> None:
    assert meaning("storage_config", "name") == "use bucket_name"
    assert meaning("hyperparameters", "name") is None
    assert meaning("", "nonsense") is None


def test_dashes_and_capitals_make_no_difference() -> None:
    assert meaning("hyperparameters", "Lora-Rank") == "use r"
