"""Each LoRA setting: both paths have the losses of TRL with the same ``LoraConfig``, and the saved adapter is the trained one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from launcher.experiment.schema import Experiment
from tests.trainer.conftest import run_of

pytestmark = pytest.mark.slow
STEPS, PAIRS = 3, 6
FEW = ["q_proj", "down_proj"]
RANKS = {"q_proj": 4, "layers.1.mlp.up_proj": 2}
OUT = ["k_proj", "layers.0.mlp.up_proj"]
# The setting, and what adapter_config.json holds of it.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "use_rslora": ({"use_rslora": True}, {"use_rslora": True}),
    "use_dora": ({"use_dora": True}, {"use_dora": True}),
    "init_lora_weights": ({"init_lora_weights": "gaussian"}, {"init_lora_weights": "gaussian"}),
    "rank_pattern": ({"rank_pattern": RANKS}, {"rank_pattern": RANKS}),
    "alpha_pattern": ({"alpha_pattern": {"down_proj": 64}}, {"alpha_pattern": {"down_proj": 64.0}}),
    "exclude_modules": ({"exclude_modules": OUT}, {"exclude_modules": OUT}),
    "exclude_modules by a pattern": ({"exclude_modules": r".*\.mlp\..*"}, {"exclude_modules": r".*\.mlp\..*"}),
    "layers_to_transform": ({"layers_to_transform": 1}, {"layers_to_transform": [1]}),
    "layers_to_transform of a list": ({"layers_to_transform": [0], "target_modules": FEW}, {"layers_to_transform": [0]}),
    "modules_to_save, tied": ({"modules_to_save": ["lm_head"]}, {"modules_to_save": ["model.embed_tokens"]}),
    "modules_to_save of a norm": ({"modules_to_save": ["norm"]}, {"modules_to_save": ["model.norm"]}),
}  # fmt: skip


class Bench:
    """One model and its pairs, trained by this project and by TRL's own trainer."""

    def __init__(self, root: Path, make: Callable[..., Experiment]):
        from launcher.data.pairs import read_pairs
        from launcher.data.tables.reading import Reading
        from trainer.inputs.models.model import choose_precision, load_model, load_tokenizer
        from trainer.inputs.tokens.tokens import tokenize

        self.root, self._make, plain = root, make, make(max_seq_length=96)
        self.precision = choose_precision(plain.hyperparameters, cuda=False, bf16=False)
        self.tokenizer = load_tokenizer(plain, plain.model_name)
        self.model = load_model(plain, plain.model_name, self.precision, cuda=False)
        texts = sorted(read_pairs(plain, Reading(root)).train, key=lambda pair: len(pair.chosen + pair.rejected + pair.user))
        self.tokens = tokenize(texts[:PAIRS], self.tokenizer, plain.hyperparameters, source="train.csv", cache=root / "cache")

    def of(self, model: Any) -> Bench:
        other = copy.copy(self)
        other.model = model
        return other

    def experiment(self, settings: dict[str, Any]) -> Experiment:
        batch = {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "max_steps": STEPS}
        return self._make(r=8, max_seq_length=96, **batch, **settings)

    def ours(
        self, settings: dict[str, Any], path: str, name: str, resume: Path | None = None
    ) -> tuple[list[float], str, Any, Any]:
        """(its losses and gradient norms, the sentence of its path, the trainer, its run)."""
        from trainer.inputs.arguments import arguments
        from trainer.inputs.models.adapter import seed_adapter, widen_adapter
        from trainer.processes.ranks.machine import Device
        from trainer.step.choosing.choice import choose_path, take_path
        from trainer.step.dpo import DPOTrainer
        from trainer.step.loss.first import is_fresh

        experiment = self.experiment(settings)
        run = run_of(self.root, experiment, f"{name.replace(' ', '-')}-{path}")
        args = arguments(experiment, run, self.precision, Device(cuda=False, bf16=False, rank=0, world=1))
        trainer = DPOTrainer(args=args, **self._parts(experiment))
        widen_adapter(trainer.model)
        seed_adapter(trainer.model, 3, 4)
        assert is_fresh(trainer.model)
        choice = choose_path(trainer, path, self.tokens, None)
        take_path(trainer, choice, self.precision, "base", [("train.csv", self.tokens)], self.root / "cache" / name / path)
        torch.manual_seed(trainer.args.seed)  # the order of the pairs
        trainer.origin = {"zero_stage": 0, "ranks": 1}
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        assert not is_fresh(trainer.model)
        return numbers(trainer), choice.sentence, trainer, run

    def theirs(self, settings: dict[str, Any]) -> list[float]:
        """The same numbers of TRL's own trainer."""
        import trl

        from trainer.inputs.models.adapter import seed_adapter

        class Plain(trl.DPOTrainer):  # TRL's own, but for the text that it would tokenise
            def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
                return dataset

            def _send_telemetry(self) -> None:
                pass

        fixed = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_length": None, "disable_tqdm": True}
        fixed |= {"report_to": "none", "optim": "adamw_torch", "logging_steps": 1, "save_strategy": "no", "max_steps": STEPS}
        fixed |= {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "output_dir": str(self.root / "trl")}
        trainer = Plain(args=trl.DPOConfig(**fixed), **self._parts(self.experiment(settings)))
        seed_adapter(trainer.model, 3, 4)
        torch.manual_seed(trainer.args.seed)  # the order of the pairs
        trainer.train()
        return numbers(trainer)

    def _parts(self, experiment: Experiment) -> dict[str, Any]:
        from trainer.inputs.models.adapter import lora_config

        model = copy.deepcopy(self.model)
        config = lora_config(experiment.hyperparameters, model)
        return {"model": model, "train_dataset": self.tokens.dataset(), "processing_class": self.tokenizer, "peft_config": config}


def numbers(trainer: Any) -> list[float]:
    return [line[name] for line in trainer.state.log_history if "loss" in line for name in ("loss", "grad_norm")]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, make_experiment: Callable[..., Experiment]) -> Bench:
    return Bench(tmp_path_factory.mktemp("lora"), make_experiment)


@pytest.fixture(scope="module")
def experts(bench: Bench) -> Bench:
    """The bench with a model whose experts are two tensors, which ``target_modules`` does not reach."""
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": len(bench.tokenizer)}
    return bench.of(GptOssForCausalLM(GptOssConfig(**sizes, layer_types=["full_attention"] * 2, router_aux_loss_coef=0.0)))


@pytest.fixture(scope="module")
def common(bench: Bench) -> list[float]:
    return bench.theirs({})


@pytest.mark.parametrize("name", list(CASES))
def test_a_setting_gives_the_losses_of_trl_and_an_adapter_that_reloads(bench: Bench, common: list[float], name: str) -> None:
    settings, held = CASES[name]
    check(bench, name, settings, held, common)


def check(bench: Bench, name: str, settings: dict[str, Any], held: dict[str, Any], common: list[float]) -> None:
    from peft import PeftModel

    from trainer.checkpoints.checkpoints import _by_every_name, _in_file, save_verified

    expected = bench.theirs(settings)
    assert expected != pytest.approx(common, abs=1e-5), "the setting changes the training"
    found, sentence, trainer, run = bench.ours(settings, "auto", name)
    assert sentence.startswith("fast path on"), sentence
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
    verified = save_verified(trainer, run)
    (folder,) = [path.parent for path in run.path.rglob("adapter_config.json")]
    saved = json.loads((folder / "adapter_config.json").read_text())
    assert {key: saved[key] for key in held} == held
    spread = _by_every_name(trainer.model, {key: p for key, p in trainer.model.named_parameters() if p.requires_grad})
    assert {_in_file(key) for key in spread} == load_file(folder / "adapter_model.safetensors").keys(), "as under ZeRO 3"
    reloaded = PeftModel.from_pretrained(copy.deepcopy(bench.model), str(folder))
    tensors = {key: tensor for key, tensor in reloaded.named_parameters(remove_duplicate=False) if ".default" in key}
    trained = {key: tensor for key, tensor in trainer.model.named_parameters(remove_duplicate=False) if ".default" in key}
    assert tensors.keys() == trained.keys()
    assert len(tensors) == verified["tensors"]
    assert [key for key in tensors if not torch.equal(tensors[key], trained[key])] == []


def test_adapters_of_parameters_that_hold_experts_are_trained_as_trl_trains_them(experts: Bench) -> None:
    names = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    settings = {"target_parameters": names, "rank_pattern": {"down_proj": 2}}
    expected = experts.theirs(settings)
    assert expected != pytest.approx(experts.theirs({}), abs=1e-5)
    found, sentence, trainer, run = experts.ours(settings, "auto", "target_parameters")
    assert sentence.startswith(("fast path on", "plain path: gpt_oss")), sentence
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-5)
    from trainer.checkpoints.checkpoints import save_verified

    assert save_verified(trainer, run)["largest_logp_difference"] == 0.0
    (file,) = run.path.rglob("adapter_config.json")
    assert sorted(json.loads(file.read_text())["target_parameters"]) == names


@pytest.fixture(scope="module")
def untied(bench: Bench) -> Bench:
    """The bench with a model whose head is not its embedding."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(3)
    config = Qwen3Config(**{**bench.model.config.to_dict(), "tie_word_embeddings": False})
    return bench.of(Qwen3ForCausalLM(config))


def test_embedding_and_head_are_trained_whole_and_the_reference_stays_the_base_model(untied: Bench, common: list[float]) -> None:
    name, settings = "modules_to_save", {"modules_to_save": ["embed_tokens", "lm_head"], "use_dora": True}
    check(untied, name, settings, {"modules_to_save": ["embed_tokens", "lm_head"]}, common)
    _, _, trainer, _ = untied.ours(settings, "auto", "reference")
    ids = torch.arange(12)[None]
    fast = trainer.fast.packed.removed
    with torch.no_grad(), fast(), trainer.model.disable_adapter():
        off = trainer.model.eval()(input_ids=ids, position_ids=ids).logits
    with torch.no_grad():
        base = copy.deepcopy(untied.model).eval()(input_ids=ids, position_ids=ids).logits
    assert torch.equal(off, base)


def test_in_bf16_copies_are_trained_in_fp32_and_read_back_bit_for_bit(
    bench: Bench,
) -> None:
    from trainer.checkpoints.checkpoints import save_verified
    from trainer.inputs.models.adapter import skip_input_casts
    from trainer.inputs.models.model import Precision

    half = bench.of(copy.deepcopy(bench.model).to(torch.bfloat16))
    half.precision = Precision(torch.bfloat16, bf16=True, fp16=False)
    settings = {"modules_to_save": ["norm"], "use_dora": True, "rank_pattern": {"q_proj": 4}}
    _, sentence, trainer, run = half.ours(settings, "auto", "half")
    assert sentence.startswith("fast path on"), sentence
    assert {p.dtype for p in trainer.model.parameters() if p.requires_grad} == {torch.float32}
    assert trainer.model.get_base_model().model.norm(torch.ones(1, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert save_verified(trainer, run)["largest_logp_difference"] == 0.0
    skip_input_casts(trainer.model)
    casts = {module.cast_input_dtype_enabled for module in trainer.model.modules() if hasattr(module, "lora_variant")}
    assert casts == {True}, "DoRA takes the norm of its base weights in fp32"


def test_an_attention_that_packed_rows_cannot_use_is_trained_on_the_plain_path(bench: Bench, common: list[float]) -> None:
    eager = bench.of(copy.deepcopy(bench.model))
    eager.model.set_attn_implementation("eager")
    found, sentence, _, _ = eager.ours({"attn_implementation": "eager"}, "auto", "eager")
    assert sentence == "plain path: qwen3 uses eager attention, and packed rows need sdpa or flex_attention"
    assert found == pytest.approx(common, abs=1e-5, rel=1e-5)


def test_a_resume_continues_lengths_copies_and_ranks_bit_for_bit(bench: Bench) -> None:
    from trainer.inputs.models.model import Precision

    half = bench.of(copy.deepcopy(bench.model).to(torch.bfloat16))
    half.precision = Precision(torch.bfloat16, bf16=True, fp16=False)
    settings = {"modules_to_save": ["embed_tokens"], "use_dora": True, "rank_pattern": {"q_proj": 4}}
    saved = {**settings, "save_strategy": "steps", "save_steps": 2}
    _, _, whole, run = half.ours(saved, "auto", "whole")
    _, _, resumed, _ = half.ours(settings, "auto", "resumed", resume=run.path / "checkpoint-2")
    expected, found = (dict(t.model.named_parameters(remove_duplicate=False)) for t in (whole, resumed))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert any("modules_to_save" in name for name in expected)
