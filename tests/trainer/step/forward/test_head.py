"""The head that is not trained, against the whole logits in float64 and against TRL's kernel."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from launcher.planning.sizes.activations import Numbers, head_bytes
from launcher.planning.sizes.model_config import ModelConfig

pytestmark = pytest.mark.slow
ALL = ("log_probs", "entropy", "mean_logits", "is_top1")
TOKENS, WORDS, WIDTH = 150, 300, 24
SHAPES = {
    "plain": {},
    "bias": {"bias": True},
    "capped": {"cap": 1.5},
    "scaled": {"scale": 0.3},
    "all of them": {"bias": True, "cap": 1.5, "scale": 0.3, "temperature": 0.8},
}
Fold = Callable[..., Any]


@pytest.fixture(params=["by_torch", "by_kernels", "by_kernels in Triton's interpreter"])
def fold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fold:
    """Both ways, in tiles of 64 tokens. TRL's kernels are its functions in torch, or run in Triton's interpreter."""
    from trl.kernels import chunked_logprob as of_trl

    from launcher.planning.sizes import activations
    from trainer.step.forward import head

    name, _, is_interpreted = request.param.partition(" ")
    if is_interpreted:
        if not of_trl._TRITON_AVAILABLE or os.environ.get("TRITON_INTERPRET") != "1":
            pytest.skip("needs the package triton and TRITON_INTERPRET=1")
        monkeypatch.setattr(of_trl, "_use_triton", lambda device: True)
    monkeypatch.setattr(activations, "FROZEN_ROWS", 64)
    monkeypatch.setattr(activations, "FROZEN_NUMBERS", 1)
    monkeypatch.setattr(activations, "TILE", (4096, 64 * WORDS // 4096 + 1))
    monkeypatch.setattr(head, "TILE", (4096, 128))
    found: Fold = getattr(head, name)
    monkeypatch.setattr(head, "by_torch", found)
    return found


def given(**shape: Any) -> tuple[dict[str, torch.Tensor | None], Any]:
    from trainer.step.forward.head import Logits

    torch.manual_seed(0)
    bias = torch.randn(WORDS, dtype=torch.float64) if shape.pop("bias", False) else None
    hidden, weight = (torch.randn(count, WIDTH, dtype=torch.float64) / 2 for count in (TOKENS, WORDS))
    targets = (hidden @ weight.T).argmax(-1)
    targets[::2] = torch.randint(WORDS, (TOKENS // 2,))
    logits = Logits(shape.get("temperature", 1.0), shape.get("scale", 1.0), shape.get("cap"), ALL)
    return {"hidden": hidden, "weight": weight, "bias": bias, "targets": targets}, logits


def whole(hidden: Any, weight: Any, bias: Any, targets: Any, logits: Any) -> tuple[torch.Tensor, ...]:
    """All logits at once: the four figures."""
    z = (hidden @ weight.T + (0 if bias is None else bias)) * logits.scale
    z = (z if logits.cap is None else logits.cap * torch.tanh(z / logits.cap)) / logits.temperature
    logp = torch.log_softmax(z, -1)
    entropy = -(logp.exp() * logp).sum(-1)
    return logp.gather(-1, targets[:, None])[:, 0], entropy, z.mean(-1), z.argmax(-1) == targets


def as_type(tensors: dict[str, Any], kind: torch.dtype) -> dict[str, Any]:
    return {name: one.to(kind) if one is not None and name != "targets" else one for name, one in tensors.items()}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_figures_and_gradient_are_those_of_all_logits_in_float64(fold: Fold, shape: dict[str, Any]) -> None:
    from trainer.step.forward.head import frozen_head

    tensors, logits = given(**shape)
    exact, single = dict(tensors), as_type(tensors, torch.float32)
    weights = torch.randn(TOKENS, dtype=torch.float64)
    for one in (exact, single):
        one["hidden"].requires_grad_()
    expected = whole(**exact, logits=logits)
    expected[0].backward(weights)
    found = frozen_head(**single, logits=logits)
    found[0].backward(weights.float())
    for one, other in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=2e-6)
    assert torch.equal(found[3], expected[3])
    assert 0.1 < expected[3].float().mean() < 0.9, "both answers occur"
    torch.testing.assert_close(single["hidden"].grad.double(), exact["hidden"].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wide", ["weights", "all"])
def test_under_autocast_the_head_is_as_far_from_float64_as_trls(fold: Fold, wide: str) -> None:
    from trl.kernels import ChunkedLogProbFunction

    from trainer.step.forward.head import frozen_head

    tensors, logits = given(cap=4.0)
    exact, half = dict(tensors), as_type(tensors, torch.float32)
    if wide == "weights":
        half["hidden"] = half["hidden"].bfloat16()
    for one in (exact, half):
        one["hidden"].requires_grad_()
    expected = whole(**exact, logits=logits)[0]
    (slope,) = torch.autograd.grad(expected.sum(), exact["hidden"])
    off = []
    for is_trls in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if is_trls:
                found = ChunkedLogProbFunction.apply(*half.values(), 1.0, 128, 4.0, 1.0, ALL)
            else:
                found = frozen_head(**half, logits=logits)
        (gradient,) = torch.autograd.grad(found[0].sum(), half["hidden"])
        assert gradient.dtype == half["hidden"].dtype
        off.append(
            [
                float((one.double() - other).norm() / other.norm())
                for one, other in ((found[0].detach(), expected), (gradient, slope))
            ]
        )
    trls, ours = off
    assert trls[1] > 1e-4, "it says something"
    assert ours[0] <= 1.1 * trls[0]
    assert ours[1] <= 1.3 * trls[1], "without Triton the kept product is rounded to 16 bits"


def test_words_of_several_blocks_of_a_kernel_count_once_also_those_of_a_ragged_last_one(fold: Fold) -> None:
    from trainer.step.forward.head import Logits, frozen_head

    torch.manual_seed(0)
    hidden, weight = (torch.randn(count, 8, dtype=torch.float64) for count in (5, 2500))
    exact: dict[str, Any] = {"hidden": hidden, "weight": weight, "bias": None, "targets": torch.tensor([0, 1023, 1024, 2499, 7])}
    single, logits = as_type(exact, torch.float32), Logits(1.0, 1.0, None, ALL)
    for one in (exact, single):
        one["hidden"].requires_grad_()
    expected, found = whole(**exact, logits=logits), frozen_head(**single, logits=logits)
    for one, other in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=2e-6)
    expected[0].sum().backward()
    found[0].sum().backward()
    torch.testing.assert_close(single["hidden"].grad.double(), exact["hidden"].grad, rtol=1e-5, atol=1e-5)


def test_of_words_with_equal_logits_the_first_is_the_most_likely(fold: Fold) -> None:
    from trainer.step.forward.head import frozen_head

    tensors, logits = given()
    some = as_type(tensors, torch.float32)
    some["weight"][[5, 9]] = 3 * some["hidden"][0]
    some["hidden"] = some["hidden"][[0, 0, 0]]
    some["targets"] = torch.tensor([5, 9, 7])
    assert frozen_head(**some, logits=logits)[3].tolist() == [True, False, False]


class Products(TorchDispatchMode):
    """Counts matrix products over words and tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        return sum(self.counts[name] for name in ("mm", "addmm", "addmm_", "bmm"))


def test_a_tile_takes_two_matrix_products_and_one_without_a_gradient(fold: Fold) -> None:
    from trainer.step.forward.head import frozen_head

    tensors, logits = given()
    some, tiles = as_type(tensors, torch.float32), 3
    with Products() as scored:
        frozen_head(**some, logits=logits)
    some["hidden"].requires_grad_()
    with Products() as learned:
        frozen_head(**some, logits=logits)[0].sum().backward()
    assert (scored.count, learned.count) == (tiles, 2 * tiles)


def test_a_figure_that_nobody_wants_is_not_computed(fold: Fold) -> None:
    from trainer.step.forward.head import Logits, frozen_head

    tensors, logits = given()
    some = as_type(tensors, torch.float32)
    found = frozen_head(**some, logits=Logits(1.0, 1.0, None, ("log_probs",)))
    assert found[1:] == (None, None, None)
    assert torch.equal(found[0], frozen_head(**some, logits=logits)[0])


@pytest.mark.parametrize(
    ("settings", "is_frozen"),
    [({}, True), ({"modules_to_save": ["lm_head"]}, False), ({"target_modules": ["q_proj", "lm_head"]}, False), (None, False)],
    ids=["an adapter in the layers", "a trained copy", "an adapter of the head", "all weights"],
)
def test_a_head_that_is_trained_keeps_trls_kernel(settings: dict[str, Any] | None, is_frozen: bool) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from trainer.inputs.tokens.token_pairs import TokenPair, TokenPairs
    from trainer.step.packed import Packed

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16}
    torch.manual_seed(0)
    base: Any = Qwen3ForCausalLM(Qwen3Config(vocab_size=64, num_key_value_heads=2, tie_word_embeddings=False, **sizes))
    add_fused_lm_head(base, outputs=ALL)
    model = base if settings is None else get_peft_model(base, LoraConfig(**{"target_modules": ["q_proj"], **settings}))
    packed = Packed(model)
    (row,) = packed.pack(TokenPairs.of([TokenPair([3, 4], [5, 6], [7, 8], 1)]), 100)
    sums, _ = packed(model, row)
    assert packed.has_frozen_head is is_frozen
    assert is_frozen == any("_FrozenHead" in name for name in nodes(sums.grad_fn))
    sums.sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any("lm_head" in name for name in trained) == (settings is None or "modules_to_save" in settings)


def nodes(node: Any) -> set[str]:
    """The names of all nodes that a backward pass goes through."""
    found, left = set(), [node]
    while left:
        now = left.pop()
        found.add(type(now).__name__)
        left += [one for one, _ in now.next_functions if one is not None and one not in found]
    return found


def test_the_key_of_the_references_numbers_says_that_the_head_is_not_trained(
    tmp_path: Path, make_experiment: Callable[..., Any], make_trainer: Callable[..., Any]
) -> None:
    from trainer.step.choosing.choice import Choice, _key
    from trainer.step.packed import Packed

    keys = set()
    for number, settings in enumerate(({}, {"modules_to_save": ["lm_head"]})):
        trainer, _, precision = make_trainer(tmp_path / str(number), make_experiment(**settings), pairs=2)
        choice = Choice(Packed(trainer.model), 512, "")
        keys.add(_key(trainer, choice, precision, "these weights"))
    assert len(keys) == 2


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_plan_counts_the_bytes_that_a_frozen_head_takes_on_a_cpu(kind: torch.dtype) -> None:
    from trainer.step.forward.head import Logits, frozen_head

    words, width, places = 4096, 64, 120
    hidden = torch.randn(places, width, dtype=kind, requires_grad=True)
    weight, targets = torch.randn(words, width, dtype=kind), torch.arange(places)
    logits = Logits(1.0, 1.0, None, ("entropy", "mean_logits", "is_top1"))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        frozen_head(hidden, weight, None, targets, logits)[0].sum().backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    sizes = {"model_type": "qwen3", "hidden_size": width, "vocab_size": words, "num_hidden_layers": 1, "num_attention_heads": 1}
    numbers = Numbers(kind.itemsize, kind.itemsize)
    config = ModelConfig.parse({**sizes, "intermediate_size": 64})
    assert head_bytes(config, places, numbers, cuda=False, trained=False, frozen=True) == pytest.approx(peak, rel=0.03)
