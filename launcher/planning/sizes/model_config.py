"""ModelConfig: the sizes of a model from its ``config.json``, and how many weights they make. No weights are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...errors import ExperimentError, Mistake

_GEMMA: Final = ("gemma", "gemma2", "gemma3", "gemma3_text")
_LLAMA: Final = ("llama", "mistral", "ministral", "phi3", "olmo2", "olmo3", "qwen2", "qwen3", "smollm3", "granite")
_SPARSE: Final = ("mixtral", "qwen2_moe", "qwen3_moe")


@dataclass(frozen=True)
class Linear:
    """One linear module of a decoder layer; ``count``: how many layers have it."""

    name: str
    inputs: int
    outputs: int
    count: int
    bias: bool = False
    block: str = "mlp"  # of the layer, in a Llama's words

    @property
    def weights(self) -> int:
        """In all layers, without biases."""
        return self.inputs * self.outputs * self.count


@dataclass(frozen=True)
class ModelConfig:
    """A decoder with gated MLPs (Llama and its kin), dense or with experts. Widths are numbers per token."""

    family: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool  # the head is the embedding
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    fused: bool = False  # q, k, v in one module, gate and up in another
    norms: int = 2  # per layer, of the width ``hidden``
    qk_norm: str = "none"  # "head": over one head, "all": over all heads
    experts: int = 0
    experts_per_token: int = 0
    expert_inner: int = 0
    shared_inner: int = 0
    sparse_layers: int = 0  # layers with experts in place of one MLP

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
        """``data`` as transformers writes it, also nested in ``text_config``.

        Raises ExperimentError for a size that is missing or not a positive integer, naming ``where`` and the key.
        """
        text = data.get("text_config")
        keys = _Keys({**data, **text} if isinstance(text, Mapping) else data, where)
        family = str(keys.data.get("model_type", "unknown"))
        hidden, layers, heads = keys.size("hidden_size"), keys.size("num_hidden_layers"), keys.size("num_attention_heads")
        bias = bool(keys.data.get("attention_bias", family == "qwen2_moe" and keys.data.get("qkv_bias", True)))
        sparse = _sparse(keys, layers)
        return cls(
            family=family,
            hidden=hidden,
            inner=keys.size("intermediate_size"),
            layers=layers,
            heads=heads,
            kv_heads=keys.size("num_key_value_heads", heads),
            head_dim=keys.size("head_dim", None if family in _GEMMA else hidden // heads),
            vocab=keys.size("vocab_size"),
            tied=bool(keys.data.get("tie_word_embeddings", family in _GEMMA)),
            qkv_bias=bias or family == "qwen2",
            output_bias=bias and family not in ("qwen2", "qwen2_moe"),
            mlp_bias=bool(keys.data.get("mlp_bias", False)),
            fused=family == "phi3",
            norms=4 if family in ("gemma2", "gemma3", "gemma3_text") else 2,
            qk_norm="all" if family in ("olmo2", "olmo3") else "head" if family in _NORMED else "none",
            **sparse,
        )

    @property
    def is_known(self) -> bool:
        """Whether this family's weights are counted exactly; others are counted as a Llama of these sizes."""
        return self.family in (*_GEMMA, *_LLAMA, *_SPARSE)

    @property
    def wide_norms(self) -> bool:
        """Whether a norm multiplies with its weight in fp32, before it narrows its output."""
        return self.family in (*_GEMMA, "olmo2", "olmo3")

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Every linear module of the layers, as PEFT's ``all-linear`` finds them: no experts, no router, no head."""
        return tuple(self._linears())

    def _linears(self) -> Iterator[Linear]:
        h, q, k, every = self.hidden, self.queries, self.keys, self.layers
        if self.fused:
            yield Linear("qkv_proj", h, q + 2 * k, every, self.qkv_bias, _ATTENTION)
        else:
            for name, width in zip(_QKV, (q, k, k), strict=True):
                yield Linear(name, h, width, every, self.qkv_bias, _ATTENTION)
        yield Linear("o_proj", q, h, every, self.output_bias, _ATTENTION)
        shared = (self.shared_inner, self.sparse_layers, "mlp.shared_expert")
        for inner, count, block in ((self.inner, every - self.sparse_layers, "mlp"), shared):
            if not inner or not count:
                continue
            if self.fused:
                yield Linear("gate_up_proj", h, 2 * inner, count, block=block)
            else:
                yield Linear("gate_proj", h, inner, count, self.mlp_bias, block)
                yield Linear("up_proj", h, inner, count, self.mlp_bias, block)
            yield Linear("down_proj", inner, h, count, self.mlp_bias, block)
        if self.shared_inner and self.sparse_layers:
            yield Linear("shared_expert_gate", h, 1, self.sparse_layers)

    @property
    def embedding(self) -> int:
        """Weights of the embedding; where the head is tied to it, also those of the head."""
        return self.vocab * self.hidden

    @property
    def linear_weights(self) -> int:
        return sum(linear.weights for linear in self.linears)

    @property
    def expert_weights(self) -> int:
        return self.sparse_layers * self.experts * 3 * self.hidden * self.expert_inner

    @property
    def parameters(self) -> int:
        """All weights of the model; the head counts once more where it is not tied to the embedding."""
        biases = sum(linear.outputs * linear.count for linear in self.linears if linear.bias)
        of_heads = {"none": 0, "head": 2 * self.head_dim, "all": self.queries + self.keys}[self.qk_norm]
        norms = self.layers * (self.norms * self.hidden + of_heads) + self.hidden
        routers = self.sparse_layers * self.experts * self.hidden
        embeddings = self.embedding * (1 if self.tied else 2)
        return embeddings + self.linear_weights + biases + norms + routers + self.expert_weights

    @property
    def largest_layer(self) -> int:
        """Weights of the largest layer."""
        attention = sum(linear.weights // linear.count for linear in self.linears[: 2 if self.fused else 4])
        dense = 3 * self.hidden * self.inner if self.sparse_layers < self.layers else 0
        sparse = 3 * self.hidden * (self.experts * self.expert_inner + self.shared_inner) if self.sparse_layers else 0
        return attention + max(dense, sparse)

    @property
    def active_weights(self) -> int:
        """Weights of the layers that one token is multiplied with: all but the experts that it is not routed to."""
        used = self.sparse_layers * self.experts_per_token * 3 * self.hidden * self.expert_inner
        return self.linear_weights + used + self.sparse_layers * self.experts * self.hidden


_ATTENTION: Final = "self_attn"
_QKV: Final = ("q_proj", "k_proj", "v_proj")
_NORMED: Final = ("qwen3", "qwen3_moe", "gemma3", "gemma3_text")


@dataclass(frozen=True)
class _Keys:
    data: Mapping[str, Any]
    where: str

    def size(self, key: str, default: int | None = None, *others: str) -> int:
        """The first of ``key`` and ``others`` that is set."""
        name = next((name for name in (key, *others) if self.data.get(name) is not None), None)
        if name is None:
            if default is None:
                raise ExperimentError(Mistake(self.where, f"{key} is missing", "a positive integer"))
            return default
        value = self.data[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ExperimentError(Mistake(self.where, f"{name} is not a size", "a positive integer", json.dumps(value)))
        return value


def _sparse(keys: _Keys, layers: int) -> dict[str, int]:
    data = keys.data
    if not any(data.get(name) is not None for name in ("num_experts", "num_local_experts")):
        return {}
    family = data.get("model_type")
    only = data.get("mlp_only_layers") or ()
    step = keys.size("decoder_sparse_step", 1)
    return {
        "experts": keys.size("num_experts", None, "num_local_experts"),
        "experts_per_token": keys.size("num_experts_per_tok"),
        "expert_inner": keys.size("intermediate_size" if family in ("mixtral", "gpt_oss") else "moe_intermediate_size"),
        "shared_inner": keys.size("shared_expert_intermediate_size") if family == "qwen2_moe" else 0,
        "sparse_layers": sum(layer not in only and (layer + 1) % step == 0 for layer in range(layers)),
    }
