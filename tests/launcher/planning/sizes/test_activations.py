"""Bytes kept for the backward pass, against what autograd saves in models of transformers under PEFT and autocast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import pytest

from launcher.experiment.sections.hyperparameters import Hyperparameters
from launcher.planning.sizes.activations import Attends, Numbers, Trains, kept_bytes
from launcher.planning.sizes.adapter import trained
from launcher.planning.sizes.model_config import ModelConfig

pytestmark = pytest.mark.slow
# Prompt of 29 tokens, answers of 40 and 60: the row holds 28 + 40 + 60.
TOKENS, CHOSEN, REJECTED = 128, 40, 60
SIZES = {
    "vocab_size": 512,
    "hidden_size": 96,
    "intermediate_size": 224,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "pad_token_id": 0,
}
SEGMENTS = Attends(segments=True)
R = 8


@dataclass(frozen=True)
class Case:
    """A way to train: all weights or an adapter, of weights with ``half`` precision or fp32, with autocast or without."""

    full: bool = False
    half: bool = False
    autocast: bool = False
    recompute: bool = False
    packed: bool = True
    dora: bool = False
    ranks: dict[str, int] = field(default_factory=dict)

    @property
    def numbers(self) -> Numbers:
        return Numbers(2 if self.half else 4, 2 if self.autocast else 4)

    def trains(self, config: ModelConfig) -> Trains:
        return trained(Hyperparameters(r=R, full_finetuning=self.full, use_dora=self.dora, rank_pattern=self.ranks), config)


CASES = {
    "adapter on 16 bits": Case(half=True, autocast=True),
    "adapter in fp32": Case(),
    "all weights in fp32": Case(full=True),
    "all weights in 16 bits": Case(full=True, half=True, autocast=True),
    "fp32 masters under autocast": Case(full=True, autocast=True),
    "adapter, gradient checkpointing": Case(half=True, autocast=True, recompute=True),
    "masters, gradient checkpointing": Case(full=True, autocast=True, recompute=True),
    "adapter, padded": Case(half=True, autocast=True, packed=False),
    "DoRA on 16 bits": Case(half=True, autocast=True, dora=True),
    "DoRA in fp32, other ranks": Case(dora=True, ranks={"down_proj": 32}),
}


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gemma", "gemma3_text"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_bytes_of_a_layer_are_those_that_autograd_saves(kind: str, case: Case) -> None:
    """Of two more layers: the first keeps less, as its input needs no gradient where the embedding is frozen."""
    counted, saved = [], []
    for layers in (1, 3):
        config = ModelConfig.parse({**SIZES, "model_type": kind, "num_hidden_layers": layers})
        attends = SEGMENTS if case.packed else Attends(masked=TOKENS)
        counted.append(kept_bytes(config, TOKENS, case.numbers, case.trains(config), attends, recompute=case.recompute))
        saved.append(_saved(kind, layers, case))
    assert (counted[1] - counted[0]) / (saved[1] - saved[0]) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("kind", ["qwen3", "phi3"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.packed and not case.recompute])
def test_on_a_cpu_the_last_layer_keeps_what_is_read_of_it(kind: str, name: str) -> None:
    """Of the whole layer's bytes, what is spared is off by 3 % at most."""
    counted, saved, case = [], [], CASES[name]
    config = ModelConfig.parse({**SIZES, "model_type": kind, "num_hidden_layers": 2})
    for read in (None, CHOSEN):
        counted.append(kept_bytes(config, TOKENS, case.numbers, case.trains(config), SEGMENTS, read=read))
        saved.append(_saved(kind, 2, case, read))
    a_layer = saved[0] / 2
    assert (counted[0] - counted[1]) / a_layer == pytest.approx((saved[0] - saved[1]) / a_layer, abs=0.03)


def test_outside_of_the_layers_nothing_is_forgotten() -> None:
    """What is counted more: ids and places, which autograd does not save, 64 bytes a token."""
    for case in (Case(full=True), Case(full=True, half=True, autocast=True)):
        one = ModelConfig.parse({**SIZES, "model_type": "qwen3", "num_hidden_layers": 1})
        counted = kept_bytes(one, TOKENS, case.numbers, case.trains(one), SEGMENTS)
        saved = _saved("qwen3", 1, case)
        assert -0.01 * saved <= counted - saved <= 64 * TOKENS


@pytest.mark.parametrize(("heads", "are_repeated"), [(4, False), (6, True), (8, False), (14, True)])
def test_on_a_gpu_keys_are_repeated_where_the_heads_are_no_power_of_two(heads: int, are_repeated: bool) -> None:
    """transformers gives FlexAttention as many keys as queries then: a model with fewer keys keeps as much as one with all."""
    fewer, every = (
        ModelConfig.parse(
            {**SIZES, "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": keys}
        )
        for keys in (2, heads)
    )
    kept = [kept_bytes(one, TOKENS, Numbers(4, 4), CASES["adapter in fp32"].trains(one), Attends()) for one in (fewer, every)]
    assert kept[1] - kept[0] == (0 if are_repeated else 2 * TOKENS * 2 * (heads - 2) * SIZES["head_dim"] * 4)


def _saved(kind: str, layers: int, case: Case, read: int | None = None) -> int:
    """Bytes that the forward pass saves and that no weight has; ``read``: tokens whose outputs the last layer computes."""
    import torch

    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
    from trainer.step.batches.packing import pack
    from trainer.step.compiling.compiled import decoder_layers
    from trainer.step.forward.attention import segments
    from trainer.step.forward.last import LastLayer

    (row,) = pack(TokenPairs.of([TokenPair([3] * 29, [4] * CHOSEN, [5] * REJECTED, 1)]), TOKENS)
    assert row.length == TOKENS
    mask = segments(row) if case.packed else torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()[None, None]
    model = _model(kind, layers, case)
    causal = model if case.full else model.get_base_model()
    last = LastLayer([] if read is None else decoder_layers(causal))
    last.place()
    last.read(row.where[-(read or 0) :])
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    seen: WeakSet[Kept] = WeakSet()

    def keep(tensor: Any) -> Kept:
        seen.add(kept := Kept(tensor))
        return kept

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.autocast):
        output = causal.model(
            input_ids=row.input_ids[None], position_ids=row.position_ids[None], attention_mask=mask, use_cache=False
        )
    assert output.last_hidden_state.requires_grad
    alive = {storage.data_ptr(): storage.nbytes() for kept in seen if (storage := kept.tensor.untyped_storage())}
    return sum(size for place, size in alive.items() if place not in own)


class Kept:
    """A saved tensor, as long as its graph lives: DoRA builds some that it forgets in the forward pass."""

    def __init__(self, tensor: Any):
        self.tensor = tensor


def _model(kind: str, layers: int, case: Case) -> Any:
    """As the trainer makes it: an adapter in fp32, and its inputs as they come."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from trainer.inputs.models.adapter import skip_input_casts
    from trainer.step.forward.attention import SEGMENTS as BY_SEGMENTS

    config = AutoConfig.for_model(kind, **SIZES, num_hidden_layers=layers)
    model: Any = AutoModelForCausalLM.from_config(config).to(torch.bfloat16 if case.half else torch.float32)
    if case.packed:
        model.set_attn_implementation(BY_SEGMENTS)
    if case.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if not case.full:
        model = get_peft_model(
            model,
            LoraConfig(r=R, use_dora=case.dora, rank_pattern=case.ranks, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        skip_input_casts(model)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if case.recompute:
            model.enable_input_require_grads()
    return model.train()
