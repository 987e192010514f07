"""Activations: bytes that a decoder keeps for the backward pass, tensor by tensor. Pure.

The tensors are those that autograd saves in transformers' layers under PEFT and autocast (``torch.autograd.graph
.saved_tensors_hooks`` shows them); Korthikanti et al., arXiv 2205.05198, section 4.1, count those of a GPT the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .model_config import ModelConfig

TILE: Final = (4096, 32768)  # tokens and words: what TRL's fused head projects at once
# Tensors of a tile in fp32 that live at once where no Triton kernel folds them: logits twice, log-probabilities, probabilities,
# their gradient, the targets (a byte a number) and two terms of a sum.
_FOLDED: Final = 7.25


@dataclass(frozen=True)
class Numbers:
    """Bytes a number: ``stream`` of weights and residual stream, ``compute`` of matrix products (less under autocast)."""

    stream: int
    compute: int


def kept_bytes(
    config: ModelConfig,
    tokens: int,
    numbers: Numbers,
    *,
    targets: frozenset[str] | None,
    r: int = 0,
    masked: int = 0,
    copied: float = 0.0,
    recompute: bool = False,
) -> int:
    """Bytes alive at the end of the forward pass of ``tokens``.

    ``targets``: names of the modules with an adapter of rank ``r``; None: all weights are trained. ``masked``: width of a
    dense attention mask; 0: a kernel that takes no mask and repeats no keys. ``copied``: the share of the tokens whose keys
    attention by segments copies (``trainer.step.attention``). ``recompute``: gradient checkpointing, which keeps
    only the inputs of the layers.
    """
    full, h = targets is None, config.hidden
    # Outside of the layers: the last norm, positions and places in int64, sines and cosines, and the mask itself.
    outside = tokens * (4 * h + (numbers.stream * h if full else 0) + 64 + 2 * config.head_dim * numbers.stream + masked)
    casts = config.linear_weights * numbers.compute if full and numbers.stream != numbers.compute else 0
    if recompute:
        return outside + casts + tokens * config.layers * h * numbers.stream
    dense = config.layers - config.sparse_layers
    a_token = config.layers * _attention(config, numbers, targets, r, masked, copied)
    a_token += dense * _mlp(config.inner, config, numbers, targets, r)
    if config.sparse_layers:
        a_token += config.sparse_layers * _experts(config, numbers, targets, r)
    return outside + casts + tokens * a_token


def working_bytes(
    config: ModelConfig,
    tokens: int,
    numbers: Numbers,
    *,
    targets: frozenset[str] | None,
    r: int = 0,
    masked: int = 0,
    copied: float = 0.0,
    recompute: bool = False,
) -> int:
    """Bytes that the backward pass of one layer adds: gradients of the MLP's four tensors, and of its input on both paths."""
    inner = max(config.inner, config.experts_per_token * config.expert_inner + config.shared_inner)
    adds = tokens * (3 * inner * numbers.compute + 2 * config.hidden * numbers.stream)
    if not recompute:
        return adds
    layer = _attention(config, numbers, targets, r, masked, copied)
    if config.sparse_layers:
        return adds + tokens * (layer + _experts(config, numbers, targets, r))
    return adds + tokens * (layer + _mlp(config.inner, config, numbers, targets, r))


def head_bytes(config: ModelConfig, places: int, numbers: Numbers, *, cuda: bool, trained: bool) -> int:
    """Bytes that TRL's fused head adds in the backward pass of ``places`` tokens; ``trained``: the head gets a gradient, too."""
    rows, words = min(places, TILE[0]), min(config.vocab, TILE[1])
    tile = rows * TILE[1] * numbers.compute + (0 if cuda else int(_FOLDED * 4 * rows * words))
    cast = words * config.hidden * numbers.compute if numbers.stream != numbers.compute else 0
    gradients = 4 * places * config.hidden + (4 * config.embedding if trained else 0)
    return tile + cast + gradients + places * config.hidden * numbers.compute


def _inputs(names: tuple[str, ...], width: int, numbers: Numbers, targets: frozenset[str] | None) -> int:
    """Bytes of a module's input kept for the gradient of its weights.

    Where autocast narrows them every module keeps its own copy, else they share one (``adapter.skip_input_casts``).
    """
    count = len(names) if targets is None else len(targets.intersection(names))
    return (count if numbers.stream != numbers.compute else min(1, count)) * width * numbers.compute


def _attention(config: ModelConfig, numbers: Numbers, targets: frozenset[str] | None, r: int, masked: int, copied: float) -> int:
    """Bytes a token of one layer's norms and attention."""
    full, h, q, k, compute = targets is None, config.hidden, config.queries, config.keys, numbers.compute
    kept = config.norms * (4 * h + 4 + (numbers.stream * h if full else 0))  # a norm computes in fp32
    names = ("qkv_proj",) if config.fused else ("q_proj", "k_proj", "v_proj")
    kept += _inputs(names, h, numbers, targets)
    if config.qk_norm != "none":
        kept += 4 * (q + k) + 4 * (config.heads + config.kv_heads) + (compute * (q + k) if full else 0)
    kept += compute * (2 * q + 2 * (q if masked or copied else k)) + 4 * config.heads + masked * compute
    if copied:  # repeated keys and values once more, and the outputs of the segments beside their concatenation
        kept += int(compute * q * (2 * copied + 1))
    if targets is not None:
        # Without a copy for autocast it is the attention's own output.
        kept += _inputs(("o_proj",), q, numbers, targets) if numbers.stream != compute else 0
        kept += r * compute * len(targets.intersection((*names, "o_proj")))
    return kept


def _mlp(inner: int, config: ModelConfig, numbers: Numbers, targets: frozenset[str] | None, r: int) -> int:
    """Bytes a token of a gated MLP: gate, its activation, up, and their product, which the last projection sees."""
    names = ("gate_up_proj",) if config.fused else ("gate_proj", "up_proj")
    last = 1 if targets is None or "down_proj" in targets else 0
    kept = _inputs(names, config.hidden, numbers, targets) + (3 + last) * inner * numbers.compute
    if targets is not None:
        kept += r * numbers.compute * len(targets.intersection((*names, "down_proj")))
    return kept


def _experts(config: ModelConfig, numbers: Numbers, targets: frozenset[str] | None, r: int) -> int:
    """Bytes a token of a layer with experts: each that it is sent to keeps its input and four tensors of its own width."""
    each = numbers.compute * (2 * config.hidden + 4 * config.expert_inner)
    shared = _mlp(config.shared_inner, config, numbers, targets, r) if config.shared_inner else 0
    return config.experts_per_token * each + 4 * config.experts + shared
