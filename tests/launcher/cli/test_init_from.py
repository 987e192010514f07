"""``launcher init --from``: the config of another tool becomes an experiment file, which check accepts."""

from __future__ import annotations

from pathlib import Path

from launcher.experiment.files import load

from .conftest import Launcher

AXOLOTL = """\
base_model: org/model
model_type: LlamaForCausalLM
rl: dpo
datasets:
  - path: prefs/pairs.csv
    type: chatml.intel
    split: train
chat_template: chatml
adapter: qlora
load_in_4bit: true
lora_r: 32
lora_alpha: 16
lora_target_linear: true
sequence_len: 2048
micro_batch_size: 2
gradient_accumulation_steps: 4
optimizer: adamw_torch_fused
learning_rate: 0.0002
bf16: auto
tf32: false
gradient_checkpointing: true
saves_per_epoch: 1
val_set_size: 0.05
wandb_project:
output_dir: ./outputs
"""
WRITTEN = """\
# yaml-language-server: $schema=.dpo-schema.json
# From dpo-qlora.yml, a config of Axolotl. `launcher explain KEY` explains a key.
dpo-qlora:
  experiment_id: dpo-qlora
  model_name: org/model
  datasets_path: prefs
  train_filename: pairs.csv
  validation_split: 0.05
  dpo_column_mapping_config:
    input_columns: {prompt: question}
    chosen: chosen
    rejected: rejected
  hyperparameters:
    load_in_4bit: true
    r: 32
    lora_alpha: 16
    max_seq_length: 2048
    per_device_train_batch_size: 2
    gradient_accumulation_steps: 4
    optim: adamw_torch_fused
    learning_rate: 0.0002
    tf32: false
    num_train_epochs: 1               # Axolotl's default
    lr_scheduler_type: cosine         # Axolotl's default

  # Not taken over:
  # model_type: LlamaForCausalLM
  #     the model's own configuration and tokenizer are used
  # chat_template: chatml
  #     the chat template of the model's tokenizer is used
  # gradient_checkpointing: true
  #     auto: only if GPU memory is short
  # saves_per_epoch: 1
  #     use hyperparameters.save_steps: the steps between two checkpoints, not their number per epoch
  # output_dir: ./outputs
  #     runs are kept in data/dpo/model; `launcher ps` lists them
"""
ROWS = "question,chosen,rejected\n" + "".join(f"What is {n} and {n}?,It is {2 * n}.,Many things.\n" for n in range(40))


def put(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_a_config_of_axolotl_becomes_an_experiment_that_check_accepts(launcher: Launcher) -> None:
    put("prefs/pairs.csv", ROWS)
    code, out, err = launcher("init", "--from", put("dpo-qlora.yml", AXOLOTL))
    assert (code, err) == (0, "")
    assert out.startswith(
        "Wrote configs/dpo-qlora.yml from dpo-qlora.yml, a config of Axolotl.\n\nNot taken over:\n  model_type: Lla"
    )
    assert out.endswith(
        "\n\nThen:\n"
        "  launcher check dpo-qlora   find every mistake\n"
        "  launcher data dpo-qlora    show lengths, repeats and one pair\n"
        "  launcher run dpo-qlora     train\n"
    )
    assert Path("configs/dpo-qlora.yml").read_text(encoding="utf-8") == WRITTEN
    code, out, err = launcher("check", "dpo-qlora")
    assert (code, err) == (0, "")
    assert out.startswith("dpo-qlora  ")


def test_data_of_ones_own_take_the_place_of_the_configs_dataset(launcher: Launcher) -> None:
    put("prefs/pairs.csv", ROWS)
    name = put("ultra.yaml", "model_name_or_path: org/model\nuse_peft: true\ndataset_name: elsewhere\nbeta: 0.05\n")
    code, out, err = launcher("init", "--from", name, "--data", "prefs/pairs.csv")
    assert (code, err) == (0, "")
    assert out.startswith(
        "Wrote configs/ultra.yml from ultra.yaml, a config of TRL.\n\nRead prefs/pairs.csv (40 rows). Prompt: question; "
    )
    assert "elsewhere" not in Path("configs/ultra.yml").read_text(encoding="utf-8")
    found = load("ultra").experiment
    assert (found.datasets_path, found.train_filename, found.hyperparameters.beta) == ("prefs", "pairs.csv", 0.05)


def test_a_recipe_and_a_config_are_not_mixed_and_a_file_is_never_overwritten(launcher: Launcher) -> None:
    name = put("configs/dpo.yml", AXOLOTL)
    assert launcher("init", "--from", name, "--recipe", "qwen3-0.6b-lora-8gb")[2] == (
        "error: --from cannot be combined with --recipe: both write the settings\n"
    )
    code, _, err = launcher("init", "--from", name)
    assert (code, Path(name).read_text(encoding="utf-8")) == (2, AXOLOTL)
    assert err == (
        "error: configs/dpo.yml already exists; name another file: launcher init configs/mine.yml --from configs/dpo.yml\n"
    )


def test_a_file_of_data_or_a_config_in_place_of_the_file_to_write_names_the_option(launcher: Launcher) -> None:
    told = {
        put(
            "pairs.jsonl", "{}\n"
        ): "pairs.jsonl is a file of data, not an experiment file; for data use: launcher init --data pairs.jsonl",
        "new.csv": "new.csv is a file of data, not an experiment file; for data use: launcher init --data new.csv",
        put(
            "dpo.yml", AXOLOTL
        ): "dpo.yml is the config of another tool; write an experiment from it: launcher init --from dpo.yml",
    }
    for name, message in told.items():
        assert launcher("init", name)[::2] == (2, f"error: {message}\n")
    assert not Path("new.csv").exists()


def test_check_and_run_name_the_command_where_a_file_is_a_config_of_another_tool(launcher: Launcher) -> None:
    name = put("other/dpo.yml", AXOLOTL)
    for typed in (("check", "-f", name), ("check", name), ("run", name)):
        code, _, err = launcher(*typed)
        assert code == 42
        assert err == (
            "error: other/dpo.yml:1:1: settings at the top level, without an experiment's name: a config of Axolotl\n"
            "    | base_model: org/model\n"
            "    | ^^^^^^^^^^\n"
            "    expected: experiments by name, such as my_experiment: {experiment_id: 1, …}\n"
            "    hint:     write an experiment from it: launcher init --from other/dpo.yml\n"
        )
    put("configs/other.yml", "model_name: org/model\nhyperparameters: {beta: 0.1}\n")
    code, _, err = launcher("check")
    assert code == 0
    assert err == (
        "warning: configs/other.yml:1:1: settings at the top level, without an experiment's name; "
        "write an experiment from it: launcher init --from configs/other.yml\n"
    )
