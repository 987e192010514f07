"""What the config of another tool means here: the same settings, that tool's defaults, and what has no place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, UsageError
from launcher.experiment.moved import Moved, moved
from launcher.experiment.schema import Experiment

HANDBOOK = """\
model_name_or_path: org/sft
torch_dtype: bfloat16
attn_implementation: flash_attention_2
use_peft: true
load_in_4bit: true
lora_r: 128
lora_alpha: 128
lora_target_modules: [q_proj, v_proj]
dataset_mixer: {org/prefs: 1.0}
dataset_splits: [train_prefs, test_prefs]
dataset_num_proc: 12
bf16: true
beta: 0.01
do_eval: true
eval_steps: 100
gradient_checkpointing_kwargs: {use_reentrant: false}
max_length: 1024
max_prompt_length: 512
num_train_epochs: 1
save_steps: 0.5
padding_free: true
hub_token: hf_abcdefghijklmnopqrstuvwxyz
"""
FACTORY = """\
model_name_or_path: org/model
stage: dpo
finetuning_type: lora
lora_rank: 16
lora_target: q_proj,v_proj
pref_beta: 0.2
pref_loss: orpo
dataset: dpo_en_demo
cutoff_len: 1024
quantization_bit: 4
deepspeed: examples/deepspeed/ds_z3_config.json
val_size: 0.1
"""
SWIFT = """\
# one card
export MODEL="org/model"
CUDA_VISIBLE_DEVICES=0 \\
swift rlhf \\
    --rlhf_type dpo --model $MODEL \\
    --tuner_type full \\
    --dataset 'org/prefs' \\
    --learning_rate 2e-5 \\
    --max_length=2048 --no_remove_unused_columns \\
    --packing
"""


def of(tmp_path: Path, text: str, name: str = "config.yaml") -> Moved:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return moved(name, tmp_path)


def why(found: Moved) -> dict[str, str]:
    return dict(found.left_out)


def test_a_config_of_trl_keeps_its_settings_and_trls_defaults(tmp_path: Path) -> None:
    found = of(tmp_path, HANDBOOK)
    assert (found.tool, found.defaults) == (
        "TRL",
        ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "lora_dropout"),
    )
    assert found.settings == {
        "model_name": "org/sft",
        "datasets_path": "hf://org/prefs",
        "train_filename": "train_prefs",
        "validation_filename": "test_prefs",
        "hyperparameters": {
            "torch_dtype": "bfloat16", "load_in_4bit": True, "r": 128, "lora_alpha": 128, "target_modules": ["q_proj", "v_proj"],
            "beta": 0.01, "eval_steps": 100, "max_seq_length": 1024, "num_train_epochs": 1,
            "learning_rate": 1e-6, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "lora_dropout": 0.05,
        },
    }  # fmt: skip
    Experiment.parse(found.settings)
    assert why(found) == {
        "attn_implementation: flash_attention_2": "the attention kernel is chosen automatically",
        "gradient_checkpointing_kwargs: {use_reentrant: false}": "auto: only if GPU memory is short",
        "max_prompt_length: 512": "not supported: hyperparameters.max_seq_length limits prompt + answer together",
        "padding_free: true": "the fast path packs pairs without padding, and computes the loss in chunks",
        "save_steps: 0.5": "hyperparameters.save_steps must be a whole number",
        "hub_token": "not supported during a run; publish its adapter afterwards: `launcher push RUN --to OWNER/NAME` "
        "(HF_TOKEN is read from the environment)",
    }


def test_trl_without_use_peft_and_axolotl_without_adapter_train_all_weights(tmp_path: Path) -> None:
    for text in ("model_name_or_path: m\nlora_r: 8\nload_in_4bit: true\n", "base_model: m\nrl: dpo\nlora_r: 8\n"):
        h = of(tmp_path, text).settings["hyperparameters"]
        assert (h["full_finetuning"], h.keys() & {"r", "load_in_4bit"}) == (True, set())
    assert "full_finetuning" not in of(tmp_path, "base_model: m\nrl: dpo\nadapter: lora\n").settings["hyperparameters"]


def test_axolotls_qlora_means_4_bit_weights_also_where_its_config_does_not_say_so(tmp_path: Path) -> None:
    text = "base_model: org/model\nadapter: {}\nrl: dpo\n"
    assert of(tmp_path, text.format("qlora")).settings["hyperparameters"]["load_in_4bit"] is True
    assert "load_in_4bit" not in of(tmp_path, text.format("lora")).settings["hyperparameters"]


def test_values_of_llama_factory_are_ours(tmp_path: Path) -> None:
    found = of(tmp_path, FACTORY)
    h = found.settings["hyperparameters"]
    assert {key: h[key] for key in ("r", "lora_alpha", "target_modules", "beta", "load_in_4bit", "num_train_epochs")} == {
        "r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "beta": 0.2, "load_in_4bit": True,
        "num_train_epochs": 3,
    }  # fmt: skip
    assert (found.settings["launch"], found.settings["validation_split"]) == ({"parallelism": "zero3"}, 0.1)
    assert found.settings["datasets_path"] == "data/my_preferences"
    assert why(found) == {
        "pref_loss: orpo": "not a DPO loss: this tool trains by DPO and SFT",
        "dataset: dpo_en_demo": "name its file: datasets_path is the folder, train_filename the file",
    }


def test_a_script_of_ms_swift_is_read_by_its_options(tmp_path: Path) -> None:
    found = of(tmp_path, SWIFT, "dpo.sh")
    names = (found.tool, found.settings["model_name"], found.settings["datasets_path"])
    assert names == ("ms-swift", "org/model", "hf://org/prefs")
    assert found.settings["hyperparameters"] == {
        "full_finetuning": True, "learning_rate": 2e-5, "max_seq_length": 2048, "num_train_epochs": 3,
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 16, "lr_scheduler_type": "cosine", "weight_decay": 0.1,
        "adam_beta2": 0.95,
    }  # fmt: skip
    assert why(found) == {"packing: true": "the fast path packs sequences itself"}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("base_model: m\nmicro_batch_size: 1\n", {"method": "sft"}),
        ("model_name_or_path: m\nstage: sft\n", {"method": "sft"}),
        ("base_model: m\nrl: ipo\n", {"hyperparameters": {"loss_type": "ipo"}}),
        (
            "model_name_or_path: m\ndataset_mixture: {datasets: [{id: o/d, config: c, split: a}], test_split_size: 0.1}\n",
            {"datasets_path": "hf://o/d?config=c", "train_filename": "a", "validation_split": 0.1},
        ),
        (
            "model_name_or_path: m\ndataset_mixture: {datasets: [{id: o/d, split: a}, {id: o/d, split: b}]}\n",
            {"datasets_path": "hf://o/d", "train_filename": "a", "validation_filename": "b"},
        ),
        (
            "model_name_or_path: m\ndataset_mixture: {datasets: [{id: o/d}, {id: o/e}]}\n",
            {"datasets_path": "data/my_preferences"},
        ),
        (
            "base_model: m\nrl: dpo\nrpo_alpha: 0.1\ndpo_loss_type: [hinge]\n",
            {"hyperparameters": {"loss_type": ["hinge", "sft"], "loss_weights": [1.0, 0.1]}},
        ),
        ("base_model: m\nrl: dpo\nglobal_batch_size: 16\nmicro_batch_size: 8\n", {"launch": {"global_batch_size": 16}}),
        ("base_model: m\nrl: dpo\ntrl: {beta: 0.3}\n", {"hyperparameters": {"beta": 0.3}}),
        ("base_model: m\nrl: dpo\noptimizer: adamw\n", {"hyperparameters": {"optim": "adamw_torch"}}),
    ],
)
def test_the_method_the_loss_and_an_inner_section_are_read(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    found = of(tmp_path, text).settings
    for key, value in settings.items():
        assert found[key] == value if not isinstance(value, dict) else value.items() <= found[key].items()


def test_a_text_of_several_lines_stays_in_one_comment_and_an_empty_section_is_not_written(tmp_path: Path) -> None:
    text = "base_model: m\nrl: dpo\nuse_swanlab: true\nabout: |\n  first\n  second\ndeepspeed: {a: 1}\n"
    found = of(tmp_path, text)
    assert "launch" not in found.settings
    assert [line for line, _ in found.left_out] == ["use_swanlab: true", "about: 'first second '", "parallelism: {a: 1}"]


def test_what_names_no_model_trains_otherwise_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^config\.yaml: kto learns from single answers that are marked good or bad; "):
        of(tmp_path, "base_model: m\nrl: kto\n")
    with pytest.raises(
        UsageError, match=r"^config\.yaml names no model; expected: a config of TRL, .*; found keys: model, epochs$"
    ):
        of(tmp_path, "model: {_component_: torchtune.models.m}\nepochs: 1\n")
    with pytest.raises(UsageError, match=r"^config\.yaml is no config: expected keys with values$"):
        of(tmp_path, "- a\n")
    with pytest.raises(UsageError, match=r"^cannot read the script: No closing quotation$"):
        of(tmp_path, "swift rlhf --model 'm\n", "x.sh")
    with pytest.raises(UsageError, match=r"^cannot read missing\.yml: no such file or directory$"):
        moved("missing.yml", tmp_path)
    with pytest.raises(ExperimentError):
        of(tmp_path, "a: [\n")
