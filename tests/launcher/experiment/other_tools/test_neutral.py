from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from launcher.errors import ExperimentError
from launcher.experiment.files import load
from launcher.experiment.other_tools.other_names import meaning
from launcher.experiment.other_tools.trl_fields import REFUSED, trl_fields
from launcher.experiment.problems import every_problem
from launcher.experiment.schema import ColumnMapping, Experiment, StorageConfig
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.experiment.unused import without_effect

LEAST = {"model_name": "org/model", "datasets_path": "data"}
FAMILY = """\
conf: &conf
  torch_dtype: null
  loftq_config: null
  task_type: CAUSAL_LM
  packing: false
  fast_inference: false
  use_rslora: false
  dataset_text_field: text
  dataset_num_proc: 2
  resume_from_checkpoint: null
  learning_rate: 1e-5
exp_1:
  experiment_id: 1
  model_name: m
  datasets_path: d
  hyperparameters: *conf
  dpo_column_mapping_config: {chosen: good, image_columns: []}
  storage_config: {provider: local, upload_to_cloud: false, bucket_name: "", object_prefix: ""}
"""


def problem_of(section: str, **fields: Any) -> tuple[str, str | None, str | None]:
    data = {**LEAST, **({section: fields} if section else fields)}
    with pytest.raises(ValidationError) as caught:
        Experiment.parse(data)
    (problem,) = every_problem(data, caught.value)
    return problem.what, problem.found, problem.hint


def test_a_file_of_the_family_loads_and_names_once_what_has_no_effect(tmp_path: Path) -> None:
    file = tmp_path / "family.yml"
    file.write_text(FAMILY)
    loaded = load("exp_1", file=file)
    assert loaded.notices == (
        "no effect here: loftq_config, task_type, packing, fast_inference, dataset_text_field, "
        "storage_config.provider, storage_config.bucket_name, dpo_column_mapping_config.image_columns",
        "dataset_num_proc has no effect: one process tokenizes all pairs",
    )
    plain = {"learning_rate": 1e-5, "dataset_num_proc": 2}
    same = {"experiment_id": 1, "model_name": "m", "datasets_path": "d", "storage_config": {"object_prefix": ""}}
    mapping = {"chosen": "good"}
    assert loaded.experiment == Experiment.parse({**same, "hyperparameters": plain, "dpo_column_mapping_config": mapping})


@pytest.mark.parametrize(
    ("key", "neutral"),
    [
        ("dtype", "auto"),
        ("task_type", "causal_lm"),
        ("dora", False),
        ("packing", None),
        ("loftq_config", {}),
        ("trainer", "DPO"),
        ("val_set_size", 0),
        ("dataset_text_field", "anything"),
        ("remove_unused_columns", False),
        ("push_to_hub", False),
        ("deepspeed", None),
        ("lora_r", None),
        ("rope_scaling", None),
        ("token", None),
        ("save_safetensors", True),
        ("wandb_project", ""),
    ],
)
def test_a_key_of_another_tool_is_accepted_where_its_value_changes_nothing(key: str, neutral: object) -> None:
    data = {**LEAST, "hyperparameters": {key: neutral, "beta": 0.2}}
    assert Experiment.parse(data) == Experiment.parse({**LEAST, "hyperparameters": {"beta": 0.2}})
    assert without_effect(data) == (f"no effect here: {key}",)


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("hyperparameters", "packing", True, ("must be false", "true", "the fast path packs sequences itself; remove the key")),
        ("hyperparameters", "loftq_config", {"bits": 4}, ("must be empty", "a mapping", "not supported: this tool trains LoRA")),
        ("hyperparameters", "task_type", "SEQ_CLS",
         ("must be CAUSAL_LM", '"SEQ_CLS"', "not supported: this tool trains causal language models")),
        ("hyperparameters", "fast_inference", True,
         ("must be false", "true", "not supported: no text is generated while training")),
        ("dpo_column_mapping_config", "image_columns", ["image"],
         ("must be empty", "a list", "images are not supported: this tool trains on text")),
    ],
)  # fmt: skip
def test_any_other_value_of_such_a_key_is_explained(section: str, key: str, value: object, told: tuple[str, str, str]) -> None:
    what, found, hint = told
    assert problem_of(section, **{key: value}) == (f"{section}.{key} {what}", found, hint)


@pytest.mark.parametrize(
    ("section", "key", "value", "ours"),
    [
        ("", "val_set_size", 0.05, "validation_split"),
        ("", "finetuning_type", "full", "hyperparameters.full_finetuning"),
        ("hyperparameters", "rslora", True, "use_rslora"),
        ("hyperparameters", "rslora", 0, "use_rslora"),
        ("hyperparameters", "flash_attn", "fa2", "attn_implementation"),
    ],
)
def test_a_key_with_another_name_here_is_not_told_to_keep_its_neutral_value(
    section: str, key: str, value: object, ours: str
) -> None:
    path = f"{section}.{key}".removeprefix(".")
    data = {**LEAST, **({section: {key: value}} if section else {key: value})}
    with pytest.raises(ValidationError) as caught:
        Experiment.parse(data)
    (problem,) = every_problem(data, caught.value)
    assert (".".join(map(str, problem.loc)), problem.what, problem.hint) == (path, f"unknown key '{key}'", f"use {ours}")


def test_lines_that_most_configs_of_other_tools_have_change_nothing() -> None:
    usual = {"dataset_prepared_path": None, "wandb_name": "", "lora_target_linear": True, "rlhf_type": "dpo", "do_eval": True}
    data = {**LEAST, **usual, "hyperparameters": {"bf16": True}}
    assert Experiment.parse(data) == Experiment.parse(LEAST)
    assert without_effect(data) == (
        "no effect here: dataset_prepared_path, wandb_name, lora_target_linear, rlhf_type, do_eval, bf16",
    )


def test_a_word_that_only_looks_like_one_of_another_tool_stays_a_mistake() -> None:
    wrong = {"learning_rat": None, "lora_r": 0, "max_length": None, "nonsense": False, "learning_rate": None}
    for key, value in wrong.items():
        with pytest.raises(ValidationError):
            Experiment.parse({**LEAST, "hyperparameters": {key: value}})


def test_a_section_whose_keys_are_all_commented_out_is_its_default() -> None:
    data = {**LEAST, "hyperparameters": None, "launch": None, "health": None}
    assert Experiment.parse(data) == Experiment.parse(LEAST)
    assert without_effect(data) == ("no effect here: hyperparameters, launch, health",)


def test_a_store_on_this_machine_is_none_and_cannot_be_uploaded_to() -> None:
    for nothing in ({"provider": "local", "bucket_name": None}, {"provider": "", "region": ""}, {"object_prefix": None}):
        found = Experiment.parse({**LEAST, "storage_config": {**nothing, "upload_to_cloud": False}}).storage_config
        assert found == StorageConfig(upload_to_cloud=False)
    hint = "without upload_to_cloud the adapter stays in model_output_dir"
    told = problem_of("storage_config", provider="local", upload_to_cloud=True, bucket_name="b")
    assert told == ("storage_config.provider must be s3", '"local"', hint)
    assert (
        problem_of("storage_config", upload_to_cloud="true", bucket_name="")[0]
        == "storage_config.bucket_name must be non-empty text"
    )


def test_steps_of_warm_up_count_beside_a_ratio_and_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "e.yml"
    file.write_text(FAMILY.partition("exp_1")[0].split("conf")[0] + (
        "e:\n  experiment_id: 1\n  model_name: m\n  datasets_path: d\n  hyperparameters: {warmup_steps: 5, warmup_ratio: 0.1}\n"
    ))  # fmt: skip
    loaded = load("e", file=file)
    assert loaded.notices == ("warmup_steps: 5 is used and warmup_ratio: 0.1 is not, as in transformers",)
    assert without_effect({"hyperparameters": {"warmup_steps": 0, "warmup_ratio": 0.1}}) == ()


def test_every_such_key_is_explained_and_none_is_a_setting_of_ours() -> None:
    from launcher.experiment.other_tools.neutral import _VALUES

    settings = set(trl_fields()) - set(REFUSED)
    for section in (Experiment, Hyperparameters, StorageConfig, ColumnMapping):
        settings |= set(section.model_fields)
    assert settings.isdisjoint(_VALUES)
    assert [name for name in _VALUES if meaning("hyperparameters", name) is None and name not in REFUSED] == []
    assert without_effect(Experiment.parse(LEAST).model_dump(mode="json")) == ()


def test_a_mistake_stands_at_its_place_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "family.yml"
    file.write_text(FAMILY.replace("packing: false", "packing: true"))
    with pytest.raises(ExperimentError) as caught:
        load("exp_1", file=file)
    assert str(caught.value).splitlines()[0] == f"{file}:5:12: hyperparameters.packing must be false (in exp_1)"
