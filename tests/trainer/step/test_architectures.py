"""Both paths against plain PyTorch in float64, over tiny models of every kind that people tune."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.runs.run_dir import RunDir
from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.inputs.tokens.tokens import Tokens

pytestmark = pytest.mark.slow
Make = Callable[..., Any]

_random = torch.Generator().manual_seed(7)
PAIRS = tuple(
    TokenPair(*(torch.randint(3, 96, (length,), generator=_random).tolist() for length in lengths), line=2 + line)
    for line, lengths in enumerate(((9, 7, 12), (21, 3, 5), (4, 10, 2)))
)

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


@dataclass(frozen=True)
class Kind:
    """A model of transformers by its configuration's ``model_type``; ``path``: the one that a run takes by itself."""

    name: str
    model_type: str
    path: str = "fast"
    settings: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def config(self) -> Any:
        from transformers import AutoConfig

        settings = {name: value for name, value in SMALL.items() if name not in self.without}
        return AutoConfig.for_model(self.model_type, **{**settings, **self.settings})


GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_ctx": 128, "n_inner": 48}
ROPE = {"rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
BALANCED = {**MOE, "router_aux_loss_coef": 0.0}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
GROUPED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
KINDS = [
    Kind("llama", "llama"),
    Kind("llama, dropout in attention", "llama", settings={"attention_dropout": 0.3}),
    Kind("llama, tied", "llama", settings={"tie_word_embeddings": True}),
    Kind("llama, scaled rope", "llama", settings={"rope_parameters": {"rope_type": "llama3", **ROPE}}),
    Kind("mistral", "mistral", settings={"sliding_window": None}),
    Kind("mistral, window", "mistral", settings={"sliding_window": 8}),
    Kind("qwen2", "qwen2"),
    Kind(
        "qwen2, window in some layers",
        "qwen2",
        settings={"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
    ),
    Kind("qwen3", "qwen3"),
    Kind("qwen2_moe", "qwen2_moe", settings={**BALANCED, "shared_expert_intermediate_size": 24}),
    Kind("qwen3_moe", "qwen3_moe", settings=BALANCED),
    Kind("mixtral, noise in routers", "mixtral", settings={**BALANCED, "router_jitter_noise": 0.3}),
    Kind("olmoe", "olmoe", settings=BALANCED),
    Kind("gemma", "gemma"),
    Kind("gemma2, soft-capped", "gemma2", "plain"),
    Kind("gemma3", "gemma3_text"),
    Kind("gemma3, window", "gemma3_text", settings={"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    Kind("phi", "phi"),
    Kind("phi3", "phi3"),
    Kind("smollm3, layers without rope", "smollm3", settings={"no_rope_layers": [1, 0]}),
    Kind("olmo2", "olmo2"),
    Kind("olmo3", "olmo3"),
    Kind("granite", "granite"),
    Kind("granitemoe", "granitemoe", settings=BALANCED),
    Kind("cohere2", "cohere2"),
    Kind("stablelm", "stablelm"),
    Kind("gpt_neox", "gpt_neox"),
    Kind("gptj", "gptj", "plain", {**GPT2, "rotary_dim": 8}),
    Kind("gpt2, learned positions", "gpt2", settings=GPT2),
    Kind("opt, learned positions and dropout", "opt", settings={"ffn_dim": 48, "word_embed_proj_dim": 32}),
    Kind("bloom, ALiBi", "bloom", "plain", {"n_layer": 2, "n_head": 4}),
    Kind("falcon", "falcon", settings={"alibi": False}, without=("head_dim",)),
    Kind("falcon, ALiBi", "falcon", "plain", {"alibi": True}, without=("head_dim",)),
    Kind("starcoder2", "starcoder2"),
    Kind("glm4", "glm4"),
    Kind("exaone4", "exaone4"),
    Kind("gpt_oss", "gpt_oss", "plain", BALANCED),
    Kind("deepseek_v3", "deepseek_v3", settings={**GROUPED, **LATENT, "first_k_dense_replace": 1, "num_key_value_heads": 4}),
    Kind("nemotron", "nemotron"),
    Kind("seed_oss, three kinds of dropout", "seed_oss", settings={"attention_dropout": 0.2, "residual_dropout": 0.2}),
    Kind("persimmon, dropout read from the configuration", "persimmon", settings={"attention_dropout": 0.2}),
    Kind("lfm2, hybrid", "lfm2", "plain", {"layer_types": ["conv", "full_attention"]}),
    Kind("mamba, layers that no adapter can train", "mamba", "plain", {"state_size": 8, "conv_kernel": 4}),
    Kind("mamba2", "mamba2", "plain", {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1}),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_both_paths_compute_what_float64_computes(tmp_path: Path, tiny_model: Path, make_experiment: Make, kind: Kind) -> None:
    """Log-probabilities, loss and gradient of one step, and those of the adapter that is saved and read again."""
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_config(kind.config(), dtype=torch.float32)
    widen(made)
    made.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    expected: Expected | None = None
    for wanted in ("auto", "plain"):
        trainer, begun = one_step(tmp_path / wanted, tiny_model, make_experiment, tmp_path / "base", wanted)
        assert trainer.path == (kind.path if wanted == "auto" else "plain"), begun.sentence
        if expected is None:
            expected = in_float64(adapted(base, begun.adapter))
        logged = trainer.state.log_history[0]
        assert logged["loss"] == pytest.approx(expected.loss, rel=1e-5)
        for column, name in enumerate(("chosen", "rejected")):
            assert logged[f"logps/{name}"] == pytest.approx(float(expected.policy[:, column].mean()), rel=1e-5)
            rewards = 0.1 * (expected.policy - expected.reference)[:, column].mean()
            assert logged[f"rewards/{name}"] == pytest.approx(float(rewards), abs=1e-5)
        trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        assert trained.keys() == expected.gradient.keys()
        # Plain gradient descent at rate 1: the adapter has moved by its gradient.
        moved = torch.cat([(begun.adapter[name] - p.detach().double()).flatten() for name, p in trained.items()])
        should = torch.cat([expected.gradient[name].flatten() for name in trained])
        assert float(should.norm()) > 1e-3, "there is something to compare"
        assert float((moved - should).norm()) < 1e-4 * float(should.norm())
        reloaded_adapter_is_the_trained_one(tmp_path / wanted / "adapter", trainer, base)
        if trainer.path == "plain":
            break


@dataclass(frozen=True)
class Begun:
    """A step's beginning: why its path was taken, and its adapter in float64."""

    sentence: str
    adapter: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Expected:
    policy: torch.Tensor  # [n, 2] float64: log-probabilities of (chosen, rejected)
    reference: torch.Tensor
    loss: float
    gradient: dict[str, torch.Tensor]


def widen(model: torch.nn.Module) -> None:
    """As they are made, weights are so small that every token is as likely as the other."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)


def one_step(folder: Path, tokenizer: Path, make_experiment: Make, base: Path, wanted: str) -> tuple[Any, Begun]:
    """A trainer that has taken one step of plain gradient descent, and how it began."""
    from transformers import AutoTokenizer, PrinterCallback

    from trainer.inputs.arguments import arguments
    from trainer.inputs.models.adapter import lora_config, seed_adapter
    from trainer.inputs.models.model import choose_precision, load_model
    from trainer.processes.ranks.machine import Device
    from trainer.step.choosing.choice import choose_path, take_path
    from trainer.step.dpo import DPOTrainer

    plain_descent = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    experiment = make_experiment(
        experiment={"model_name": str(base)}, max_steps=1, per_device_train_batch_size=len(PAIRS), **plain_descent
    )
    hyper = experiment.hyperparameters
    precision, tokens = choose_precision(hyper, cuda=False, bf16=False), Tokens(TokenPairs.of(PAIRS), 0)
    model = load_model(experiment, str(base), precision, cuda=False)
    trainer = DPOTrainer(
        model=model,
        args=arguments(experiment, RunDir(folder), precision, Device(cuda=False, bf16=False, rank=0, world=1)),
        train_dataset=tokens.dataset(),
        processing_class=AutoTokenizer.from_pretrained(tokenizer),
        peft_config=lora_config(hyper, model),
    )
    trainer.remove_callback(PrinterCallback)
    seed_adapter(trainer.model, hyper.random_state, hyper.seed)
    with torch.no_grad():  # a fresh adapter has margin zero, where the loss knows nothing of the data
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapter = {name: p.detach().double().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    choice = choose_path(trainer, wanted, tokens, None)
    take_path(trainer, choice, precision, "these weights", [("train.csv", tokens)], folder)
    trainer.train()
    return trainer, Begun(choice.sentence, adapter)


def adapted(base: Any, adapter: dict[str, torch.Tensor]) -> Any:
    """``base`` in float64 with ``adapter``; not the trainer's model, whose forward pass is TRL's."""
    from peft import get_peft_model

    from launcher.experiment.sections.hyperparameters import Hyperparameters
    from trainer.inputs.models.adapter import lora_config

    exact = copy.deepcopy(base)
    exact.set_experts_implementation("eager")  # the grouped kernel knows no float64
    model = get_peft_model(exact.double(), lora_config(Hyperparameters(), exact), autocast_adapter_dtype=False).double()
    wrong = model.load_state_dict(adapter, strict=False)
    assert not wrong.unexpected_keys
    return model.eval()


def in_float64(exact: Any) -> Expected:
    """Equation 7 of Rafailov et al., arXiv 2305.18290, each sequence by itself: no padding, no mask, no rows."""
    policy = answers(exact)
    with torch.no_grad(), exact.disable_adapter():
        reference = answers(exact)
    ratios = policy - reference
    loss = -torch.nn.functional.logsigmoid(0.1 * (ratios[:, 0] - ratios[:, 1])).mean()
    exact.zero_grad()
    loss.backward()
    gradient = {name: p.grad for name, p in exact.named_parameters() if p.grad is not None}
    return Expected(policy.detach(), reference, float(loss), gradient)


def answers(model: Any) -> torch.Tensor:
    """[n, 2]: sums of the log-probabilities of each pair's answers."""
    return torch.stack([torch.stack([answer(model, pair.prompt, one) for one in (pair.chosen, pair.rejected)]) for pair in PAIRS])


def answer(model: Any, prompt: list[int], ids: list[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([prompt + ids]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.double(), dim=-1).gather(1, torch.tensor(ids)[:, None]).sum()


def reloaded_adapter_is_the_trained_one(folder: Path, trainer: Any, base: Any) -> None:
    from peft import PeftModel

    trainer.model.save_pretrained(folder)
    again = copy.deepcopy(base)
    again.set_experts_implementation("eager")
    read = PeftModel.from_pretrained(again, folder)
    with torch.no_grad():
        trained = {name: p.detach().double() for name, p in trainer.model.named_parameters() if p.requires_grad}
        theirs, ours = answers(read.double().eval()), answers(adapted(base, trained))
    torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9)
