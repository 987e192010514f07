"""What a packed row dispatches, counted on a CPU: on a GPU each of these operations is a kernel's launch.

A count of this kind came within 2 % of a H200's profile (see docs). Views launch nothing, and are not counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
from trainer.inputs.tokens.tokens import Tokens
from trainer.step.batches.packing import pack

VIEWS = (
    " view _unsafe_view t transpose permute expand slice select unsqueeze squeeze detach alias as_strided split split_with_sizes "
    "unbind empty empty_like empty_strided new_empty new_empty_strided _reshape_alias lift_fresh is_same_size narrow "
)
WAITS = ("_local_scalar_dense", "nonzero", "bincount", "is_nonzero", "equal", "masked_select", "unique")  # for the device


class Dispatched(TorchDispatchMode):
    """Counts operations by name, also those of the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def dispatched(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Dispatched]:
    """What the forward and backward pass of one row of a Qwen3 dispatches, with LoRA on all linear layers, in bf16."""
    found: dict[tuple[int, bool], Dispatched] = {}

    def of(layers: int, *, casts: bool = False) -> Dispatched:
        if (layers, casts) not in found:
            found[layers, casts] = row_of(layers, casts, tmp_path_factory.mktemp("launches"), Dispatched)
        return found[layers, casts]

    return of


_Watch = TypeVar("_Watch", "Dispatched", "Called")


class Called:
    """Counts calls of functions, Python's and those in C."""

    def __enter__(self) -> Called:
        self.count = 0
        sys.setprofile(self._count)
        return self

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self.count += event in ("call", "c_call")

    def __exit__(self, *raised: object) -> None:
        sys.setprofile(None)


def row_of(layers: int, casts: bool, folder: Path, watch: type[_Watch]) -> _Watch:
    import trl
    from peft import LoraConfig
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from trainer.inputs.models.adapter import skip_input_casts, widen_adapter
    from trainer.step.dpo import DPOTrainer
    from trainer.step.forward.halves import Halves
    from trainer.step.packed import Fast, Packed, Scored

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    words = Tokenizer(WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))  # TRL wants one; the pairs are ids already
    pairs = TokenPairs.of(TokenPair(list(range(3, 20)), list(range(3, 30)), list(range(5, 40)), n) for n in range(3))
    trainer = DPOTrainer(
        model=Qwen3ForCausalLM(config).to(torch.bfloat16),
        args=trl.DPOConfig(output_dir=str(folder), max_length=None, use_cpu=True, bf16=True, report_to="none"),
        train_dataset=Tokens(pairs, 0).dataset(),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>"),
        peft_config=LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    widen_adapter(trainer.model)
    if not casts:
        skip_input_casts(trainer.model)
    for rotary in (module for module in trainer.model.modules() if hasattr(module, "inv_freq")):
        rotary.inv_freq = rotary.inv_freq.float()  # as a model that was loaded has it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.step.packed.attention", lambda *found: "sdpa")  # a call a layer, like a GPU's attention
        packed = Packed(trainer.model)
    trainer.take_fast_path(Fast(packed, 10**4, Scored(pairs, torch.zeros(3, 2, dtype=torch.float64)), None))
    if casts:
        trainer._halves = Halves(trainer.model, None)
    (row,) = packed.pack(pairs, 10**4)
    for _ in range(2):  # a first row makes tables that stay
        trainer.model.zero_grad()
        with trainer._halves.lent() as collect, watch() as mode:
            trainer._row(trainer.model, row, 1 / 3, is_last=True)
            collect()
    return mode


def a_layer(dispatched: Callable[..., Dispatched], **how: Any) -> Counter[str]:
    two, four = (dispatched(layers, **how).counts for layers in (2, 4))
    return Counter({name: (count - two[name]) // 2 for name, count in four.items() if count != two[name]})


def launches(counts: Counter[str]) -> int:
    return sum(count for name, count in counts.items() if f" {name} " not in VIEWS)


def test_a_layer_of_a_row_launches_at_most_220_operations(dispatched: Callable[..., Dispatched]) -> None:
    assert launches(a_layer(dispatched)) <= 220


def test_lora_layers_cast_nothing(dispatched: Callable[..., Dispatched]) -> None:
    """Neither inputs nor weights nor gradients; the other casts are those of the four norms, two in each direction."""
    assert a_layer(dispatched)["_to_copy"] == 4 * 4
    saved = a_layer(dispatched, casts=True) - a_layer(dispatched)
    assert saved == {"_to_copy": 8 * 7}, "of the input there and back, of two matrices; in both passes, for seven layers"


def test_gradients_of_all_lora_layers_are_widened_by_one_operation(dispatched: Callable[..., Dispatched]) -> None:
    counts = [dispatched(layers).counts["_foreach_copy_"] for layers in (2, 4)]
    assert counts == [1, 1]


def test_nothing_in_a_row_waits_for_the_device(dispatched: Callable[..., Dispatched]) -> None:
    assert {name: dispatched(2).counts[name] for name in WAITS if dispatched(2).counts[name]} == {}


def test_outside_of_layers_and_head_a_row_launches_at_most_60_operations(dispatched: Callable[..., Dispatched]) -> None:
    """The mask is left out too: FlexAttention's is made before the row is on the device."""
    from trainer.step.forward.attention import visible
    from trainer.step.forward.head import Logits, frozen_head

    hidden, weight = torch.randn(180, 32, dtype=torch.bfloat16, requires_grad=True), torch.randn(64, 32, dtype=torch.bfloat16)
    logits = Logits(1.0, 1.0, None, ("log_probs", "entropy", "mean_logits", "is_top1"))
    with Dispatched() as head:
        found = frozen_head(hidden, weight, None, torch.zeros(180, dtype=torch.int64), logits)
        found[0].backward(torch.ones(180))
    row = dispatched(2)
    (packed,) = pack(TokenPairs.of([TokenPair([3, 4], [5, 6], [7, 8], 1)]), 100)
    with Dispatched() as mask:
        visible(packed)
    rest = row.counts - head.counts - mask.counts - a_layer(dispatched) - a_layer(dispatched)
    assert launches(rest) <= 60, rest


def test_a_row_of_28_layers_makes_at_most_20000_calls_in_python(tmp_path: Path) -> None:
    two, four = (row_of(layers, False, tmp_path / str(layers), Called).count for layers in (2, 4))
    assert two < four
    assert two + 26 * (four - two) // 2 <= 20_000
