from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ExperimentError, LauncherError
from launcher.experiment.schema import Experiment
from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.runs.run_dir import RunDir
from trainer.inputs.models.adapter import check_biases, lora_config, seed_adapter, widen_adapter
from trainer.inputs.models.model import Precision, choose_precision, load_model, load_tokenizer
from trainer.processes.ranks.importing import quickly


@pytest.mark.parametrize(
    ("settings", "cuda", "bf16", "expected"),
    [
        ({}, False, False, "float32 weights, fp32 step"),
        ({"load_in_16bit": True}, False, False, "bfloat16 weights, bf16 step"),
        ({}, True, True, "bfloat16 weights, bf16 step"),
        ({}, True, False, "float16 weights, fp16 step"),
        ({"full_finetuning": True}, True, True, "float32 weights, bf16 step"),
        ({"full_finetuning": True, "load_in_16bit": True}, True, True, "bfloat16 weights, bf16 step"),
        ({"load_in_16bit": False}, True, True, "float32 weights, fp32 step"),
        ({"load_in_16bit": False, "load_in_4bit": True}, True, True, "bfloat16 weights, bf16 step"),
        ({"load_in_16bit": False, "load_in_8bit": True}, True, False, "float16 weights, fp16 step"),
        ({"load_in_16bit": False, "load_in_4bit": True}, False, False, "float32 weights, fp32 step"),
        ({"torch_dtype": "bfloat16"}, False, False, "bfloat16 weights, bf16 step"),
        ({"torch_dtype": "float32"}, True, True, "float32 weights, fp32 step"),
        ({"torch_dtype": "float16"}, True, True, "float16 weights, fp16 step"),
        ({"torch_dtype": "float16", "load_in_4bit": True}, True, True, "float16 weights, fp16 step"),
        ({"torch_dtype": "bfloat16", "full_finetuning": True}, True, True, "bfloat16 weights, bf16 step"),
    ],
)
def test_precision_follows_the_device_unless_the_experiment_says_otherwise(
    settings: dict[str, Any], cuda: bool, bf16: bool, expected: str
) -> None:
    assert str(choose_precision(Hyperparameters(**settings), cuda=cuda, bf16=bf16)) == expected


def test_all_weights_are_not_trained_in_fp16() -> None:
    for settings in ({"load_in_16bit": True}, {"torch_dtype": "float16"}):
        with pytest.raises(ExperimentError, match="fp16 cannot train all weights"):
            choose_precision(Hyperparameters(full_finetuning=True, **settings), cuda=True, bf16=False)


def test_a_type_that_the_device_lacks_is_refused() -> None:
    for dtype, cuda, what in (("float16", False, "fp16 needs a GPU"), ("bfloat16", True, "this GPU has no bf16")):
        with pytest.raises(ExperimentError, match=f"hyperparameters.torch_dtype: {what}"):
            choose_precision(Hyperparameters(torch_dtype=dtype), cuda=cuda, bf16=False)


def test_the_attention_of_the_experiment_is_loaded_and_one_that_is_not_installed_is_told_at_its_key(
    make_experiment: Callable[..., Experiment],
) -> None:
    def load(name: str) -> Any:
        experiment = make_experiment(attn_implementation=name)
        precision = choose_precision(experiment.hyperparameters, cuda=False, bf16=False)
        return load_model(experiment, experiment.model_name, precision, cuda=False)

    assert load("eager").config._attn_implementation == "eager"
    with pytest.raises(ExperimentError, match=r"hyperparameters.attn_implementation: .* cannot use flash_attention_2 here: "):
        load("flash_attention_2")


def test_the_adapter_s_first_weights_come_from_random_state_alone(make_experiment: Callable[..., Experiment]) -> None:
    import torch
    from peft import get_peft_model

    def first_weights(random_state: int, seed: int) -> torch.Tensor:
        experiment = make_experiment()
        precision = choose_precision(experiment.hyperparameters, cuda=False, bf16=False)
        model = get_peft_model(
            load_model(experiment, experiment.model_name, precision, cuda=False), lora_config(experiment.hyperparameters)
        )
        seed_adapter(model, random_state, seed)
        return torch.cat([p.flatten() for n, p in model.named_parameters() if "lora_A" in n])

    assert torch.equal(first_weights(1, 42), first_weights(1, 43))
    assert not torch.equal(first_weights(1, 42), first_weights(2, 42))


def test_random_state_decides_the_first_weights_of_an_adapted_embedding_too(make_experiment: Callable[..., Experiment]) -> None:
    import torch
    from peft import get_peft_model

    from trainer.checkpoints.checkpoints import _tensors

    def first_weights(random_state: int) -> list[torch.Tensor]:
        experiment = make_experiment(target_modules=["embed_tokens", "q_proj"])
        precision = choose_precision(experiment.hyperparameters, cuda=False, bf16=False)
        model = get_peft_model(
            load_model(experiment, experiment.model_name, precision, cuda=False), lora_config(experiment.hyperparameters)
        )
        seed_adapter(model, random_state, 42)
        tensors = _tensors(model, "default")
        assert {id(p) for p in tensors.values()} == {id(p) for p in model.parameters() if p.requires_grad}
        return [p for name, p in tensors.items() if name.endswith("lora_embedding_B")]

    assert not torch.equal(first_weights(1)[0], first_weights(2)[0])


def test_an_adapter_over_quantised_weights_is_fp32_before_and_after_a_resume(make_experiment: Callable[..., Experiment]) -> None:
    import torch
    from peft import get_peft_model

    experiment = make_experiment()
    precision = Precision(torch.bfloat16, bf16=True, fp16=False)
    model = get_peft_model(
        load_model(experiment, experiment.model_name, precision, cuda=False), lora_config(experiment.hyperparameters)
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()  # as TRL does where the base weights are quantised
    widen_adapter(model)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_the_own_code_of_a_model_may_import_what_this_run_s_libraries_do_without(
    make_experiment: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text("HERE = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)  # as ``quickly`` does, and undone at the end
    experiment = make_experiment(trust_remote_code=True)
    folder = shutil.copytree(experiment.model_name, tmp_path / "model")
    own = "import wandb", "from transformers import PreTrainedTokenizerFast as Fast", "class Own(Fast): here = wandb.HERE"
    (folder / "own.py").write_text("\n".join(own))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with quickly():
        pass
    assert load_tokenizer(experiment, str(folder)).here


def test_full_finetuning_has_no_adapter() -> None:
    assert lora_config(Hyperparameters(full_finetuning=True)) is None


def test_biases_that_the_reference_shares_are_not_trained() -> None:
    import torch

    hyper = Hyperparameters(bias="all")
    with pytest.raises(ExperimentError, match="the DPO reference shares the model's biases"):
        check_biases(torch.nn.Linear(2, 2), hyper)
    assert check_biases(torch.nn.Linear(2, 2, bias=False), hyper) == ["bias: all has no effect: the model has no biases"]
    assert check_biases(torch.nn.Linear(2, 2), Hyperparameters(bias="all", full_finetuning=True)) == []


def test_a_model_that_is_not_there_is_named_with_what_was_found(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    experiment = make_experiment(experiment={"model_name": str(tmp_path)})
    with pytest.raises(ExperimentError, match=re.escape(f"cannot load the tokenizer of {tmp_path}")):
        load_tokenizer(experiment, str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_model_whose_weights_are_cut_or_incomplete_is_not_trained(
    make_experiment: Callable[..., Experiment], tiny_model: Path, tmp_path: Path, damage: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    file = folder / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:  # transformers would draw the layer at random
        save_file({n: t for n, t in load_file(file).items() if "layers.1.mlp" not in n}, file, metadata={"format": "pt"})
    experiment = make_experiment(experiment={"model_name": str(folder)})
    precision = choose_precision(experiment.hyperparameters, cuda=False, bf16=False)
    with pytest.raises(ExperimentError, match="missing from its files" if damage == "missing" else "cannot load the model"):
        load_model(experiment, str(folder), precision, cuda=False)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["load_in_4bit", "load_in_8bit"])
def test_on_a_gpu_quantised_weights_train_an_fp32_adapter(
    make_experiment: Callable[..., Experiment], tmp_path: Path, name: str
) -> None:
    import torch

    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    pytest.importorskip("bitsandbytes")
    experiment = make_experiment(**{name: True, "load_in_16bit": False, "optim": "adamw_8bit", "max_steps": 2})
    run = RunDir.of(tmp_path, "out", "tiny", experiment.model_folder, name)
    run.create({run.experiment: experiment.model_dump_json()}, {"run": name})
    train(run, experiment, Roots(tmp_path, tmp_path, tmp_path / "cache"), StopRequest(), attempt=1)
    assert run.read_record()["result"]["verified"]["largest_logp_difference"] == 0.0
    from safetensors.torch import load_file

    assert {t.dtype for t in load_file(run.adapter / "adapter_model.safetensors").values()} == {torch.float32}


@pytest.mark.gpu
def test_on_a_gpu_the_weights_are_16_bit(make_experiment: Callable[..., Experiment]) -> None:
    import torch

    experiment = make_experiment()
    precision = choose_precision(experiment.hyperparameters, cuda=True, bf16=torch.cuda.is_bf16_supported())
    model = load_model(experiment, experiment.model_name, precision, cuda=True)
    assert {p.dtype for p in model.parameters()} <= {torch.bfloat16, torch.float16}


@pytest.mark.parametrize("kind", ["folder", "beside whole weights", "hub id"])
def test_an_adapter_as_the_model_is_taken_apart_and_one_beside_weights_is_refused_before_anything_is_loaded(
    make_experiment: Callable[..., Experiment],
    new_run: Callable[[Path, Experiment, str], RunDir],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """transformers would load the base model that it names, and the run's own adapter would replace it."""
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub" / "models--me--sft" / "snapshots" / "abc" if kind == "hub id" else tmp_path / "sft"
    if kind == "beside whole weights":
        shutil.copytree(tiny_model, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "me/base"}')
    (folder / "adapter_model.safetensors").touch()
    name = "me/sft" if kind == "hub id" else str(folder)
    if kind == "hub id":
        (tmp_path / "hub" / "models--me--sft" / "refs").mkdir()
        (tmp_path / "hub" / "models--me--sft" / "refs" / "main").write_text("abc")
    experiment = make_experiment(experiment={"model_name": name}, model_cache_dir=str(tmp_path / "hub"))
    run = new_run(tmp_path, experiment, "run")
    with pytest.raises(ExperimentError) as caught:
        train(run, experiment, Roots(tmp_path, tmp_path, tmp_path / "cache"), StopRequest(), attempt=1)
    if kind != "beside whole weights":
        assert str(caught.value).startswith("model_name: cannot load the tokenizer of me/base\n"), "its base, which is not here"
        recorded = json.loads(run.experiment.read_text())
        assert (recorded["model_name"], recorded["adapter"], run.read_record()["model_name"]) == ("me/base", name, "me/base")
        return
    assert str(caught.value).startswith(f"model_name: {name} holds an adapter beside its weights\n")
    assert "\n    found:    adapter_config.json for base model me/base\n    hint:     " in str(caught.value)


@pytest.mark.parametrize(
    ("hyper", "beginning"),
    [
        ({"target_modules": ["q_proj", "v_prj"]}, "hyperparameters.target_modules.1: 'v_prj' matches no module of "),
        ({"target_modules": ["mlp"]}, "hyperparameters.target_modules.0: 'mlp' of "),
    ],
)
def test_wrong_targets_are_told_before_the_weights_are_loaded(
    make_experiment: Callable[..., Experiment],
    new_run: Callable[[Path, Experiment, str], RunDir],
    tiny_model: Path,
    tmp_path: Path,
    hyper: dict[str, Any],
    beginning: str,
) -> None:
    from trainer.processes.stop import StopRequest
    from trainer.train import Roots, train

    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cannot be loaded")
    experiment = make_experiment(experiment={"model_name": str(tmp_path / "model")}, **hyper)
    with pytest.raises(ExperimentError) as caught:
        train(new_run(tmp_path, experiment, "run"), experiment, Roots(tmp_path, tmp_path, tmp_path), StopRequest(), attempt=1)
    assert str(caught.value).startswith(beginning)


def test_a_disk_that_is_full_or_fails_is_not_the_experiment_s_mistake(make_experiment: Callable[..., Experiment]) -> None:
    """As the hub's client raises it while it downloads, or safetensors while it reads."""
    from trainer.inputs.models.model import not_loaded

    experiment = make_experiment(experiment={"model_name": "some-org/some-model"})
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "hub/blobs/1")
    found = not_loaded(experiment, "model", full)
    why = "the disk is full: hub/blobs/1; make room, then resume"
    assert (type(found), str(found)) == (LauncherError, f"cannot load the model of some-org/some-model: {why}")
    broken = OSError("Unable to load weights")
    broken.__cause__ = RuntimeError("I/O error: Input/output error (os error 5)")
    assert type(not_loaded(experiment, "model", broken)) is LauncherError
    assert type(not_loaded(experiment, "model", OSError("no file named model.safetensors"))) is ExperimentError
