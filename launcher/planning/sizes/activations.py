"""Activations: bytes that a decoder keeps for the backward pass, tensor by tensor. Pure.

The tensors are those that autograd saves in transformers' layers under PEFT and autocast (``torch.autograd.graph
.saved_tensors_hooks`` shows them); Korthikanti et al., arXiv 2205.05198, section 4.1, count those of a GPT the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from .model_config import ModelConfig

TILE: Final = (4096, 32768)  # tokens and words: what TRL's fused head projects at once
FROZEN_ROWS: Final = 128  # tokens whose logits a head that is not trained computes at once, at least: fewer wait for the weights
FROZEN_NUMBERS: Final = 1 << 22  # logits of a tile on a CPU where that is more: they stay in the caches
# Tensors of a tile in fp32 that live at once where no Triton kernel folds them: logits twice, log-probabilities, probabilities,
# their gradient, the targets (a byte a number) and two terms of a sum.
_FOLDED: Final = 7.25
_QKV: Final = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Numbers:
    """Bytes a number: ``stream`` of weights and residual stream, ``compute`` of matrix products (less under autocast)."""

    stream: int
    compute: int


@dataclass(frozen=True)
class Trains:
    """What is trained: all weights, or an adapter (see ``adapter``).

    ``shares``: name of a linear module -> share of the layers in which it has an adapter; None: all weights. ``ranks``: name ->
    mean rank over all layers. ``matrices``: weights of A and B. ``lengths``: of DoRA's vectors a layer. ``largest``: inputs and
    outputs of the largest module that DoRA works on. ``head``: a copy of the head is trained. ``frozen_head``: neither that nor
    an adapter on it is.
    """

    shares: Mapping[str, float] | None = None
    ranks: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    matrices: int = 0
    lengths: float = 0.0
    largest: tuple[int, int] = (0, 0)
    head: bool = False
    frozen_head: bool = False

    @property
    def full(self) -> bool:
        return self.shares is None

    def count(self, names: tuple[str, ...]) -> float:
        """How many of the modules ``names`` need their input for the gradient of a weight, in a mean layer."""
        return len(names) if self.shares is None else sum(self.shares.get(name, 0.0) for name in names)

    def any(self, names: tuple[str, ...]) -> float:
        """The share of the layers in which one of the modules ``names`` does."""
        return 1.0 if self.shares is None else max(self.shares.get(name, 0.0) for name in names)

    def width(self, names: tuple[str, ...]) -> float:
        """Numbers a token between A and B of the modules ``names``, in a mean layer."""
        return sum(self.ranks.get(name, 0.0) for name in names)


@dataclass(frozen=True)
class Attends:
    """What attention keeps beside queries, keys, values and its output.

    ``masked``: width of a dense mask; 0: FlexAttention, for which transformers repeats keys only where the number of heads is no
    power of two. ``segments``: on a CPU, where nothing is repeated (``trainer.step.forward.segments``). ``scores``: tokens whose
    scores the eager attention keeps.
    """

    masked: int = 0
    segments: bool = False
    scores: int = 0


def kept_bytes(
    config: ModelConfig,
    tokens: int,
    numbers: Numbers,
    trains: Trains,
    attends: Attends = Attends(),
    *,
    recompute: bool = False,
    read: int | None = None,
) -> int:
    """Bytes that a forward pass of ``tokens`` keeps for the backward pass.

    ``recompute``: gradient checkpointing, which keeps only the inputs of the layers. ``read``: of the tokens, those whose outputs
    the last layer computes (``trainer.step.forward.last``); None: all.
    """
    h = config.hidden
    # Outside of the layers: the last norm, positions and places in int64, sines and cosines, and the mask itself.
    product = _norm_product(config, numbers) if trains.full else 0
    outside = tokens * (4 * h + 4 + product * h + 64 + 2 * config.head_dim * numbers.stream + attends.masked)
    if recompute:
        return outside + tokens * config.layers * h * numbers.stream
    a_token = config.layers * _attention(config, numbers, trains, attends)
    a_token += (config.layers - config.sparse_layers) * _mlp(config.inner, config, numbers, trains)
    if config.sparse_layers:
        a_token += config.sparse_layers * _experts(config, numbers, trains)
    a_token += int(config.layers * _lengths(numbers, trains))
    spared = 0 if read is None else _spared(config, tokens, read, numbers, trains)
    return outside + cast_bytes(config, numbers, trains) + tokens * a_token - spared


def cast_bytes(config: ModelConfig, numbers: Numbers, trains: Trains) -> int:
    """Bytes of the 16-bit copies of trained fp32 weights, in all layers, that autocast multiplies with.

    The backward pass needs them. Under gradient checkpointing they are alive until the end of the forward pass.
    """
    if numbers.compute == 4:
        return 0
    if not trains.full:
        return trains.matrices * numbers.compute
    return config.linear_weights * numbers.compute if numbers.stream == 4 else 0


def working_bytes(
    config: ModelConfig,
    tokens: int,
    numbers: Numbers,
    trains: Trains,
    attends: Attends = Attends(),
    *,
    recompute: bool = False,
) -> int:
    """Bytes that the backward pass of one layer adds: gradients of the MLP's four tensors, and of its input on both paths."""
    inner = max(config.inner, config.experts_per_token * config.expert_inner + config.shared_inner)
    adds = tokens * (3 * inner * numbers.compute + 2 * config.hidden * numbers.stream)
    if not recompute:
        return adds
    layer = _attention(config, numbers, trains, attends)
    layer += _experts(config, numbers, trains) if config.sparse_layers else _mlp(config.inner, config, numbers, trains)
    return adds + int(tokens * (layer + _lengths(numbers, trains))) + cast_bytes(config, numbers, trains) // config.layers


def _lengths(numbers: Numbers, trains: Trains) -> float:
    """Bytes a token of a mean layer that DoRA keeps: the outputs of both halves of a module, for the gradient of its lengths."""
    return 2 * trains.lengths * numbers.compute


def rebuilt_bytes(numbers: Numbers, trains: Trains) -> int:
    """Bytes of what DoRA makes of one module's weight and forgets: the identity that goes through A and B, their product in the
    step's precision and in fp32, the base weight in fp32, and the sum of both.
    """
    inputs, outputs = trains.largest
    return 4 * inputs * inputs + inputs * outputs * (numbers.compute + 3 * 4)


def head_bytes(config: ModelConfig, places: int, numbers: Numbers, *, cuda: bool, trained: bool, frozen: bool = False) -> int:
    """Bytes that the head adds for ``places`` tokens: TRL's fused one in the backward pass; ``trained``: it gets a gradient, too.

    ``frozen``: ``trainer.step.forward.head``, whose tiles are there in the forward pass.
    """
    words, compute = min(config.vocab, TILE[1]), numbers.compute
    if not frozen:
        rows = min(places, TILE[0])
        tile = rows * TILE[1] * compute + (0 if cuda else int(_FOLDED * 4 * rows * words))
    else:
        words = words if cuda else config.vocab
        # On a CPU the logits, their softmax and the product of both; in 16 bits the logits as the product gave them beside these.
        each = compute if cuda else 3 * 4 + (0 if compute == 4 else compute)
        tile = frozen_rows(places, config.vocab, cuda=cuda) * config.vocab * each
    cast = words * config.hidden * compute if numbers.stream != compute else 0
    gradients = 4 * places * config.hidden + (4 * config.embedding if trained else 0)
    return tile + cast + gradients + places * config.hidden * compute


def frozen_rows(places: int, words: int, *, cuda: bool) -> int:
    """Of ``places`` tokens, as many as ``trainer.step.forward.head`` holds the logits of at once, each over all ``words``.

    On a GPU these are no more logits than TRL's fused head would hold, in multiples of ``FROZEN_ROWS`` tokens.
    """
    if not cuda:
        return min(places, max(FROZEN_ROWS, FROZEN_NUMBERS // words))
    fits = min(places, TILE[0]) * TILE[1] // words
    return min(places, TILE[0], max(FROZEN_ROWS, fits // FROZEN_ROWS * FROZEN_ROWS))


def _inputs(names: tuple[str, ...], width: int, numbers: Numbers, trains: Trains) -> int:
    """Bytes of a module's input kept for the gradient of its weights.

    Where autocast narrows them every module keeps its own copy, else they share one (``adapter.skip_input_casts``).
    """
    is_own = numbers.stream != numbers.compute or trains.lengths  # DoRA's inputs are cast to fp32, and autocast narrows them
    return int((trains.count(names) if is_own and numbers.compute == 2 else trains.any(names)) * width * numbers.compute)


def _norm_product(config: ModelConfig, numbers: Numbers) -> int:
    """Bytes a number of what a norm's weight is multiplied with, kept for the gradient of that weight."""
    return 4 if config.wide_norms else numbers.stream


def _attention(config: ModelConfig, numbers: Numbers, trains: Trains, attends: Attends) -> int:
    """Bytes a token of one layer's norms and attention."""
    h, q, k, compute = config.hidden, config.queries, config.keys, numbers.compute
    kept = config.norms * (4 * h + 4 + (_norm_product(config, numbers) * h if trains.full else 0))  # a norm computes in fp32
    names = ("qkv_proj",) if config.fused else _QKV
    kept += _inputs(names, h, numbers, trains)
    if config.qk_norm != "none":
        product = 4 if config.wide_norms else compute
        kept += 4 * (q + k) + 4 * (config.heads + config.kv_heads) + (product * (q + k) if trains.full else 0)
    repeats = attends.masked or (config.heads & (config.heads - 1) and not attends.segments)
    kept += compute * (2 * q + 2 * (q if repeats else k)) + 4 * config.heads + attends.masked * compute
    if attends.scores:  # the softmax in fp32, and what it is narrowed to
        kept += config.heads * attends.scores * (4 + (compute if compute != 4 else 0))
    if not trains.full:
        kept += _input_of_output(config, numbers, trains)
        kept += int(compute * trains.width((*names, "o_proj")))
    return kept


def _spared(config: ModelConfig, tokens: int, read: int, numbers: Numbers, trains: Trains) -> int:
    """Bytes that the last layer does not keep where it computes the outputs of ``read`` tokens alone, but all keys and values.

    Queries, the attention's output and the MLP then have inputs of their own, and their outputs are kept until they have been
    put among zeros. An MLP of experts computes all tokens.
    """
    h, q, compute, unread = config.hidden, config.queries, numbers.compute, tokens - read
    cut = ("o_proj",) if config.fused else ("q_proj", "o_proj")
    outputs = h * (1 if config.sparse_layers else 2) + (0 if config.fused else q)
    spared = -read * (8 + outputs * compute + _inputs(("o_proj",), q, numbers, trains))  # 8: the places themselves
    if not config.fused:
        spared += tokens * (_inputs(_QKV, h, numbers, trains) - _inputs(_QKV[1:], h, numbers, trains))
        spared -= read * _inputs(_QKV[:1], h, numbers, trains)
    if not trains.full:
        spared += tokens * _input_of_output(config, numbers, trains)
        spared += int(unread * compute * trains.width(cut))
        keys = config.keys * trains.count(_QKV[1:])
        stays = (q + 2 * config.keys) * trains.count(("qkv_proj",)) if config.fused else keys
        spared += int(unread * 2 * max(0.0, trains.lengths - stays) * compute) if trains.lengths else 0
    return spared + (0 if config.sparse_layers else unread * _mlp(config.inner, config, numbers, trains))


def _input_of_output(config: ModelConfig, numbers: Numbers, trains: Trains) -> int:
    """Bytes a token of the input of an adapter on the attention's output projection.

    Without a copy for autocast it is the attention's own output; DoRA's copy is narrowed again.
    """
    is_copied = numbers.stream != numbers.compute or (numbers.compute == 2 and trains.lengths)
    return _inputs(("o_proj",), config.queries, numbers, trains) if is_copied else 0


def _mlp(inner: int, config: ModelConfig, numbers: Numbers, trains: Trains) -> int:
    """Bytes a token of a gated MLP: gate, its activation, up, and their product, which the last projection sees."""
    names = ("gate_up_proj",) if config.fused else ("gate_proj", "up_proj")
    kept = _inputs(names, config.hidden, numbers, trains) + int((3 + trains.count(("down_proj",))) * inner * numbers.compute)
    if not trains.full:
        kept += int(numbers.compute * trains.width((*names, "down_proj")))
    return kept


def _experts(config: ModelConfig, numbers: Numbers, trains: Trains) -> int:
    """Bytes a token of a layer with experts: each that it is sent to keeps its input and four tensors of its own width."""
    each = numbers.compute * (2 * config.hidden + 4 * config.expert_inner)
    shared = _mlp(config.shared_inner, config, numbers, trains) if config.shared_inner else 0
    return config.experts_per_token * each + 4 * config.experts + shared
