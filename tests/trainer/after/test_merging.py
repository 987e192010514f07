"""Merging tensor by tensor is PEFT's merge in fp32, rounded once: bit for bit, over architectures and kinds of adapters."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from launcher.errors import LauncherError
from tests.trainer.step.test_architectures import KINDS
from trainer.after.merging import Merging, Outcome

KIND = {kind.name: kind for kind in KINDS}
BF16 = torch.bfloat16


@dataclass
class Made:
    """A base model in files, and an adapter of random numbers on it."""

    base: Path
    adapter: Path

    def merge(self, dtype: torch.dtype | None = None) -> tuple[Path, Outcome]:
        out = self.base.parent / "out"
        out.mkdir()
        return out, Merging(self.base, [self.adapter]).write(out, dtype)

    def peft(self) -> Any:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32), self.adapter)

    def loaded(self, out: Path, **config: Any) -> Any:
        from transformers import AutoModelForCausalLM

        settings = json.loads((self.base / "config.json").read_text()) | config
        (out / "config.json").write_text(json.dumps(settings))
        return AutoModelForCausalLM.from_pretrained(out, dtype="auto")


def make(root: Path, kind: str, dtype: torch.dtype = BF16, shard: str = "20KB", **lora: Any) -> Made:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(KIND[kind].config(), dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    model.to(dtype).save_pretrained(root / "base", max_shard_size=shard)
    model = AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, **{"target_modules": "all-linear", **lora}))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(root / "adapter")
    return Made(root / "base", root / "adapter")


def differing(model: Any, other: Any) -> list[str]:
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    return [name for name in mine if not torch.equal(mine[name], theirs[name])]


EXPERTS = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
CASES: list[tuple[str, Mapping[str, Any]]] = [
    ("llama", {}),
    ("qwen3", {"use_rslora": True, "rank_pattern": {"layers.0.self_attn.q_proj": 2}, "alpha_pattern": {"v_proj": 32}}),
    ("gemma3", {"use_dora": True}),
    ("gpt2, learned positions", {"fan_in_fan_out": True}),
    ("qwen3_moe", {}),
    ("qwen3_moe", EXPERTS),
    ("gpt_oss", EXPERTS),
    ("llama", {"target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["lm_head", "norm"]}),
    ("qwen2", {"target_modules": ["q_proj", "v_proj"], "bias": "lora_only"}),
    ("qwen2", {"target_modules": ["q_proj", "v_proj"], "lora_bias": True}),
]


@pytest.mark.parametrize(("kind", "lora"), CASES)
def test_merged_weights_are_those_of_peft_in_fp32_rounded_once(tmp_path: Path, kind: str, lora: Mapping[str, Any]) -> None:
    made = make(tmp_path, kind, **lora)
    out, outcome = made.merge()
    assert outcome.dtype == BF16
    assert outcome.changed > 0
    assert outcome.untied == ()
    assert differing(made.loaded(out), made.peft().merge_and_unload().to(BF16)) == []


def test_the_written_files_and_names_are_those_of_the_base(tmp_path: Path) -> None:
    made = make(tmp_path, "qwen3_moe")
    out, outcome = made.merge()
    files = [sorted(path.name for path in folder.glob("*.safetensors*")) for folder in (made.base, out)]
    assert files[0] == files[1]
    assert len(files[0]) > 2  # shards, and their index
    index = [json.loads((folder / "model.safetensors.index.json").read_text()) for folder in (made.base, out)]
    assert index[0]["weight_map"] == index[1]["weight_map"]
    assert index[1]["metadata"]["total_size"] == outcome.bytes


def test_an_fp32_base_is_written_in_bf16_and_in_fp32_on_demand(tmp_path: Path) -> None:
    made = make(tmp_path, "llama", torch.float32)
    expected = made.peft().merge_and_unload()
    out, outcome = made.merge()
    assert outcome.dtype == BF16
    assert differing(made.loaded(out, dtype="bfloat16"), expected.to(BF16)) == []
    shutil.rmtree(out)
    expected = made.peft().merge_and_unload()
    out, outcome = made.merge(torch.float32)
    assert differing(made.loaded(out, dtype="float32"), expected) == []


@pytest.mark.parametrize("changed", ["lm_head", "embed_tokens"])
def test_an_adapter_on_one_of_two_tied_embeddings_unties_them(tmp_path: Path, changed: str) -> None:
    """PEFT's merge adds the change to both; base and adapter have it in one."""
    made = make(tmp_path, "llama, tied", target_modules=["q_proj", changed])
    out, outcome = made.merge(torch.float32)
    assert outcome.untied == ("lm_head.weight",)
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        expected = made.peft()(ids).logits
        found = made.loaded(out, dtype="float32", tie_word_embeddings=False)(ids).logits
    assert torch.allclose(found, expected, atol=1e-4)


def test_tied_embeddings_that_change_alike_stay_tied(tmp_path: Path) -> None:
    made = make(tmp_path, "llama, tied", target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    out, outcome = made.merge()
    assert outcome.untied == ()
    assert differing(made.loaded(out), made.peft().merge_and_unload().to(BF16)) == []


def test_two_adapters_are_merged_one_on_the_other_with_one_rounding(tmp_path: Path) -> None:
    made, other = make(tmp_path / "one", "llama"), make(tmp_path / "two", "llama", use_dora=True)
    (tmp_path / "out").mkdir()
    Merging(made.base, [made.adapter, other.adapter]).write(tmp_path / "out", None)
    from peft import PeftModel

    below = made.peft().merge_and_unload()
    expected = PeftModel.from_pretrained(below, other.adapter).merge_and_unload().to(BF16)
    assert differing(made.loaded(tmp_path / "out"), expected) == []


def test_a_base_of_pickled_files_becomes_safetensors(tmp_path: Path) -> None:
    made = make(tmp_path, "llama", shard="1GB")
    expected = made.peft().merge_and_unload().to(BF16)
    torch.save(load_file(made.base / "model.safetensors"), made.base / "pytorch_model.bin")
    (made.base / "model.safetensors").unlink()
    out, _ = made.merge()
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    assert differing(made.loaded(out), expected) == []


def test_tensors_of_no_module_and_of_another_dtype_are_kept(tmp_path: Path) -> None:
    made = make(tmp_path, "llama", shard="1GB")
    file = made.base / "model.safetensors"
    save_file(load_file(file) | {"vision.patch": torch.randn(3, 5), "steps": torch.tensor([7])}, file, {"format": "pt"})
    out, _ = made.merge()
    with safe_open(out / "model.safetensors", "pt") as found, safe_open(file, "pt") as base:
        for name in ("vision.patch", "steps"):
            assert torch.equal(found.get_tensor(name), base.get_tensor(name))
            assert found.get_tensor(name).dtype == base.get_tensor(name).dtype


def test_what_peft_cannot_merge_is_refused_with_its_reason(tmp_path: Path) -> None:
    made = make(tmp_path / "tokens", "llama", target_modules=["q_proj"], trainable_token_indices=[1, 2])
    with pytest.raises(LauncherError, match=r"embed_tokens is a TrainableTokensWrapper"):
        Merging(made.base, [made.adapter])
    made = make(tmp_path / "pissa", "llama", target_modules=["q_proj"], init_lora_weights="pissa")
    with pytest.raises(LauncherError, match=r"it has init_lora_weights: pissa, which subtracts a part from the base's weights"):
        Merging(made.base, [made.adapter])
    made = make(tmp_path / "tokens that call it", "llama", target_modules=["q_proj"], alora_invocation_tokens=[3, 4])
    with pytest.raises(LauncherError, match=r"it acts only after its invocation tokens \(aLoRA\)"):
        Merging(made.base, [made.adapter])


def test_what_a_refused_adapter_is_told_to_become_is_merged(tmp_path: Path) -> None:
    """Each way of the hint: peft's conversion, and the base without the part that was taken out of it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = make(tmp_path, "llama").base
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], init_lora_weights="pissa"))
    adapted.peft_config["default"].init_lora_weights = True
    adapted.save_pretrained(tmp_path / "initial")
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    adapted.save_pretrained(tmp_path / "plain")
    changed = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    own = {name.removeprefix("base_model.model.").replace(".base_layer", ""): one for name, one in adapted.named_parameters()}
    changed.load_state_dict({name: own[name] for name in changed.state_dict() if name in own}, strict=False)
    changed.save_pretrained(tmp_path / "changed")
    expected = adapted.merge_and_unload().state_dict()
    for at, adapter in ((base, "converted"), (tmp_path / "changed", "plain")):
        out = tmp_path / f"merged-{adapter}"
        out.mkdir()
        Merging(at, [tmp_path / adapter]).write(out, torch.float32)
        for file in out.glob("*.safetensors"):
            for name, tensor in load_file(file).items():
                torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    made, other = make(tmp_path / "llama", "llama"), make(tmp_path / "gpt2", "gpt2, learned positions", fan_in_fan_out=True)
    with pytest.raises(LauncherError, match="does not fit its base model"):
        Merging(other.base, [made.adapter])


def test_a_base_of_quantised_files_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path, "llama")
    config = made.base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(LauncherError, match=r"its files hold quantised weights \(fp8\)"):
        Merging(made.base, [made.adapter])


def test_an_adapter_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path, "llama")
    file = made.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[next(name for name in tensors if "lora_B" in name)][0, 0] = torch.inf
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(LauncherError, match="add up to numbers that are not finite"):
        made.merge()


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 21; the process's memory is measured by tests/benchmarks/merge.py."""
    made = make(tmp_path, "llama", shard="1GB")
    merging = Merging(made.base, [made.adapter])
    alive, most = set[int](), [0]
    read = type(merging.files).read

    def counted(self: Any, name: str) -> torch.Tensor:
        tensor = read(self, name)
        alive.add(id(tensor))
        weakref.finalize(tensor, alive.discard, id(tensor))
        most[0] = max(most[0], len(alive))
        return tensor

    monkeypatch.setattr(type(merging.files), "read", counted)
    (tmp_path / "out").mkdir()
    merging.write(tmp_path / "out", None)
    assert most[0] <= 2
