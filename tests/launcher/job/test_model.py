"""The model as it lies on the disk: a folder, a hub's cache, an adapter, and the names in its weight files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError
from launcher.experiment.schema import Experiment
from launcher.job.model import check_model
from launcher.job.weights import modules_on_disk

WEIGHTS = {
    "model.embed_tokens.weight": [32, 8],
    "model.layers.0.self_attn.q_proj.weight": [8, 8],
    "model.layers.0.self_attn.q_proj.bias": [8],
    "model.layers.0.self_attn.v_proj.weight": [8, 8],
    "model.layers.0.input_layernorm.weight": [8],
    "model.layers.0.conv.weight": [8, 1, 4],
}


def experiment(model_name: str, **hyper: Any) -> Experiment:
    mapping = {"input_columns": {"q": "q"}, "chosen": "c", "rejected": "r"}
    sections = {"dpo_column_mapping_config": mapping, "hyperparameters": hyper}
    return Experiment.parse({"experiment_id": "1", "model_name": model_name, "datasets_path": "data", **sections})


def refused(model_name: str, root: Path, caller: Mapping[str, str] | None = None, **hyper: Any) -> str:
    with pytest.raises(ExperimentError) as caught:
        check_model(experiment(model_name, **hyper), root, caller or {"HOME": str(root)})
    return str(caught.value)


def write_model(folder: Path, shapes: Mapping[str, list[int]] = WEIGHTS, **config: Any) -> Path:
    """A folder as transformers writes it; of the weights there is only the header."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (folder / "tokenizer.json").write_text("{}")
    write_weights(folder / "model.safetensors", shapes)
    return folder


def write_weights(file: Path, shapes: Mapping[str, list[int]]) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, **{name: {"dtype": "F32", "shape": s} for name, s in shapes.items()}})
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode())


def write_adapter(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "me/base"}))


def test_a_model_folder_must_hold_a_model_with_weights_and_a_tokenizer(tmp_path: Path):
    (tmp_path / "model").mkdir()
    assert refused("./model", tmp_path) == (
        "model_name: no model in ./model\n    expected: a folder with config.json\n    found:    an empty folder"
    )
    (tmp_path / "model" / "config.json").write_text("{}")
    assert refused("model", tmp_path) == (
        "model_name: no weights in model\n    expected: a folder with model.safetensors\n    found:    config.json"
    )
    write_model(tmp_path / "model")
    check_model(experiment("model"), tmp_path, {})
    (tmp_path / "model" / "tokenizer.json").unlink()
    assert refused("model", tmp_path).startswith("model_name: no tokenizer in model\n    expected: one of tokenizer.json, ")


def test_a_path_that_is_not_there_is_no_hub_id(tmp_path: Path):
    for name in ("./x", "../x", "/no/such", "~/no-such-model", "~no-such-user/model", "a/b/c"):
        assert "not found" in refused(name, tmp_path)
    assert "make it with: make demo" in refused("data/demo/model", tmp_path)
    for name in ("Qwen/Qwen3-0.6B", "gpt2", "s3://bucket/models/one"):
        check_model(experiment(name), tmp_path, {"HOME": str(tmp_path)})


def test_a_folder_with_an_adapter_alone_is_refused_with_the_way_out(tmp_path: Path):
    write_adapter(tmp_path / "sft")
    assert refused("sft", tmp_path) == (
        "model_name: sft is an adapter, not a whole model\n"
        "    expected: a model with all its weights, such as its base model me/base\n"
        "    found:    adapter_config.json for base model me/base\n"
        "    hint:     name the adapter apart: model_name: me/base, adapter: sft"
    )


def test_an_adapter_beside_whole_weights_would_be_lost_too(tmp_path: Path):
    write_adapter(write_model(tmp_path / "both"))
    text = refused("both", tmp_path)
    assert text.startswith("model_name: both holds an adapter beside its weights\n    expected: a model with all its weights\n")
    assert "remove adapter_config.json and the adapter's weights to train the model without it, or name the adapter apart" in text


@pytest.mark.parametrize("setting", ["HF_HUB_CACHE", "model_cache_dir"])
def test_a_hub_id_whose_cached_snapshot_is_an_adapter_is_refused(tmp_path: Path, setting: str):
    cached = tmp_path / "hub" / "models--me--sft-lora"
    write_adapter(cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    check_model(experiment("me/sft-lora"), tmp_path, {"HOME": str(tmp_path)})  # another cache: only the run can know
    caller = {"HOME": str(tmp_path), **({setting: str(tmp_path / "hub")} if setting == "HF_HUB_CACHE" else {})}
    hyper = {setting: "hub"} if setting == "model_cache_dir" else {}
    assert refused("me/sft-lora", tmp_path, caller, **hyper).startswith("model_name: me/sft-lora is an adapter")


def test_targets_are_compared_with_the_names_in_the_weight_files(tmp_path: Path):
    write_model(tmp_path / "model")
    assert refused("model", tmp_path, target_modules=["q_proj", "v_prj", "input_layernorm", "conv"]) == (
        "hyperparameters.target_modules.1: 'v_prj' matches no module of model\n"
        "    expected: v_proj, q_proj, embed_tokens\n"
        "    hint:     did you mean 'v_proj'?\n"
        "hyperparameters.target_modules.2: 'input_layernorm' of model cannot be trained\n"
        "    expected: embed_tokens, q_proj, v_proj\n"
        "    found:    model.layers.0.input_layernorm: not a linear layer, an embedding or a convolution\n"
        "hyperparameters.target_modules.3: 'conv' of model cannot be trained\n"
        "    expected: embed_tokens, q_proj, v_proj\n"
        "    found:    model.layers.0.conv: not a linear layer, an embedding or a convolution"
    )
    for right in ("all-linear", ["q_proj", "v_proj"], ["lm_head"], r"model\.layers\.0\.self_attn\.[qv]_proj"):
        check_model(experiment("model", target_modules=right), tmp_path, {})
    check_model(experiment("model", target_modules=["v_prj"], full_finetuning=True), tmp_path, {})


def test_every_other_name_of_the_lora_settings_is_compared_too(tmp_path: Path):
    write_model(tmp_path / "model")
    wrong = {"rank_pattern": {"v_prj": 4}, "modules_to_save": ["self_attn"], "layers_to_transform": [1], "exclude_modules": ["k"]}
    assert [line for line in refused("model", tmp_path, **wrong).splitlines() if line.startswith("hyper")] == [
        "hyperparameters.exclude_modules.0: 'k' matches no module of model",
        "hyperparameters.layers_to_transform.0: model has no layer 1",
        "hyperparameters.rank_pattern.v_prj: 'v_prj' matches no module of model",
        "hyperparameters.modules_to_save.0: 'self_attn' of model is a block of several modules",
    ]
    right = {"rank_pattern": {"v_proj": 4}, "modules_to_save": ["lm_head", "input_layernorm"], "layers_to_transform": [0]}
    check_model(experiment("model", **right, exclude_modules=["q_proj"]), tmp_path, {})


def test_targets_of_a_cached_hub_model_in_shards_are_compared_too(tmp_path: Path):
    folder = write_model(tmp_path / "hub" / "models--org--big" / "snapshots" / "main")
    (folder / "model.safetensors").unlink()
    index = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(WEIGHTS)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for shard in set(index.values()):
        write_weights(folder / shard, {name: WEIGHTS[name] for name in WEIGHTS if index[name] == shard})
    caller = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    check_model(experiment("org/big", target_modules=["q_proj"]), tmp_path, caller)
    assert "'v_prj' matches no module of org/big" in refused("org/big", tmp_path, caller, target_modules=["v_prj"])


def test_files_that_do_not_tell_the_modules_are_left_to_the_run(tmp_path: Path):
    write_model(tmp_path / "own_code", auto_map={"AutoModel": "m.M"})
    write_model(tmp_path / "quantised", quantization_config={"bits": 4})
    (write_model(tmp_path / "cut") / "model.safetensors").write_bytes(b"\xff" * 12)
    (write_model(tmp_path / "old") / "model.safetensors").rename(tmp_path / "old" / "pytorch_model.bin")
    for name in ("own_code", "quantised", "cut", "old"):
        assert modules_on_disk(tmp_path / name) is None
        check_model(experiment(name, target_modules=["v_prj"]), tmp_path, {})


def test_names_that_transformers_gives_a_loaded_model_are_no_mistake(tmp_path: Path):
    on_disk = {"model.layers.0.mlp.experts.0.gate_proj.weight": [8, 8], "model.layers.0.self_attn.q_proj.weight": [8, 8]}
    write_model(tmp_path / "moe", on_disk, model_type="qwen3_moe")
    check_model(experiment("moe", target_modules=["q_proj", "down_proj", "gate"]), tmp_path, {})
    assert "'v_prj' matches no module" in refused("moe", tmp_path, target_modules=["v_prj"])
    assert "'gate_proj' of moe cannot be trained without up_proj" in refused("moe", tmp_path, target_modules=["gate_proj"])


def test_layers_that_no_adapter_can_train_in_a_family_are_refused(tmp_path: Path):
    on_disk = {f"backbone.layers.0.mixer.{name}.weight": [8, 8] for name in ("in_proj", "out_proj")}
    write_model(tmp_path / "mamba", on_disk, model_type="mamba2")
    check_model(experiment("mamba", target_modules=["in_proj"]), tmp_path, {})
    assert "mixer.out_proj: the model uses its weight directly, without an adapter" in refused(
        "mamba", tmp_path, target_modules=["out_proj"]
    )
    check_model(experiment("mamba"), tmp_path, {})
