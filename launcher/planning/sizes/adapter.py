"""Adapter: what LoRA trains of a model of known sizes, module by module. Pure.

Modules have the names of a Llama, and are matched by PEFT's rules, which ``experiment.adapted`` has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ...experiment.adapted import adapted, named, of_pattern, stays
from ...experiment.sections.hyperparameters import Hyperparameters
from ...experiment.sections.targets import Modules, is_all_linear, is_table, kind
from .activations import Trains
from .model_config import Linear, ModelConfig

_EMBEDDING: Final = "model.embed_tokens"
_HEAD: Final = "lm_head"
# Names that PEFT takes for the tensors of experts and routers, in the families for which it translates them.
_TRANSLATED: Final[Mapping[str, frozenset[str]]] = {
    "mlp.gate": frozenset({"gate"}),
    "mlp.experts.gate_up_proj": frozenset({"gate_proj", "up_proj", "gate_up_proj", "w1", "w3"}),
    "mlp.experts.down_proj": frozenset({"down_proj", "w2"}),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of experts or of a router, once in each sparse layer; ``widths``: its inputs and outputs, of all experts."""

    name: str
    widths: int
    fused: int  # matrices of a layer in it: PEFT multiplies the rank with them


@dataclass(frozen=True)
class Adapter:
    """What ``h`` trains of a model with the sizes ``config``."""

    h: Hyperparameters
    config: ModelConfig

    @cached_property
    def layers(self) -> dict[str, Linear]:
        """Name -> linear module, of every layer."""
        return {name: linear for linear in self.config.linears for name in _names(linear, self.config)}

    @cached_property
    def _modules(self) -> Modules:
        """The linear layers, the embedding and the head; norms are refused, as no adapter can train them."""
        norms = dict.fromkeys(_norms(self.config), "")
        return Modules((_EMBEDDING, *self.layers, _HEAD), norms, parameters=())

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Name of each linear module with an adapter -> its rank."""
        found = adapted(self.h, self._modules)
        return {name: self._rank(name, self.h.r) for name in found if name in self.layers}

    @property
    def dense(self) -> list[tuple[Linear, int]]:
        """The linear modules with an adapter, and its rank."""
        return [(self.layers[name], r) for name, r in self.ranks.items()]

    def _rank(self, name: str, otherwise: int) -> int:
        pattern = of_pattern(self.h.rank_pattern, name)
        return otherwise if pattern is None else self.h.rank_pattern[pattern]

    @property
    def matrices(self) -> int:
        """Weights of all A and B (arXiv 2106.09685: two matrices a module)."""
        dense = sum(r * (one.inputs + one.outputs) for one, r in self.dense)
        tables = sum(self._rank(name, self.h.r) for name in adapted(self.h, self._modules) if is_table(kind(name)))
        return dense + tables * (self.config.vocab + self.config.hidden) + self._experts()

    def _experts(self) -> int:
        """Weights of the adapters of experts and routers.

        PEFT gives those of Mixtral and Qwen3 an adapter by the names of their layers, of twice the rank where gate and up are
        one tensor; ``target_parameters`` names the tensors themselves, in any family.
        """
        translates = self.config.family in ("mixtral", "qwen3_moe")
        total = 0
        for tensor in _tensors(self.config):
            if translates and self._names_layers_of(tensor):
                total += self._rank(f"model.layers.0.{tensor.name}", tensor.fused * self.h.r) * tensor.widths
            elif any(f".model.layers.0.{tensor.name}".endswith(f".{name}") for name in self.h.target_parameters):
                total += self._rank(f"model.layers.0.{tensor.name}", self.h.r) * tensor.widths
        return self.config.sparse_layers * total

    def _names_layers_of(self, tensor: Tensor) -> bool:
        targets = self.h.target_modules
        if not stays(self.h, f"model.layers.0.{tensor.name}", self._modules):
            return False
        if isinstance(targets, str):
            return is_all_linear(targets)
        return bool(_TRANSLATED[tensor.name] & {name.rsplit(".", 1)[-1] for name in targets})

    @property
    def lengths(self) -> int:
        """Weights of DoRA's magnitude vectors (arXiv 2402.09353): one for each row of an adapted weight."""
        return sum(self.layers[name].outputs for name in self.ranks) if self.h.use_dora else 0

    @cached_property
    def copies(self) -> dict[str, int]:
        """Name of each module that is trained whole -> its weights; a tied head is its embedding."""
        sizes = {**self._sizes_of_tables, **_norms(self.config)}
        sizes |= {name: one.inputs * one.outputs + one.outputs * one.bias for name, one in self.layers.items()}
        found = named(self.h.modules_to_save, sizes, self._modules)
        if self.config.tied and {_EMBEDDING, _HEAD} & set(found):
            found = [_EMBEDDING, *(name for name in found if name not in (_EMBEDDING, _HEAD))]
        return {name: sizes[name] for name in found}

    @property
    def _sizes_of_tables(self) -> dict[str, int]:
        return dict.fromkeys((_EMBEDDING, _HEAD), self.config.embedding)

    @property
    def trains_head(self) -> bool:
        """Whether a copy of the head is trained."""
        return _HEAD in self.copies or (self.config.tied and _EMBEDDING in self.copies)

    @property
    def has_frozen_head(self) -> bool:
        """Whether neither a copy of the head is trained nor an adapter on it."""
        return not self.trains_head and _HEAD not in adapted(self.h, self._modules)

    @property
    def weights(self) -> int:
        """All that is trained."""
        return self.matrices + self.lengths + sum(self.copies.values())

    @property
    def sentence(self) -> str:
        """What is trained, in a few words."""
        ranks = sorted(set(self.ranks.values())) or [self.h.r]
        of = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        whole = f", and {', '.join(dict.fromkeys(map(kind, self.copies)))} whole" if self.copies else ""
        return f"a {'DoRA' if self.h.use_dora else 'LoRA'} adapter of {of}{whole}"

    @property
    def trains(self) -> Trains:
        """For the bytes of activations: the mean over the layers."""
        every, there = Counter(map(kind, self.layers)), Counter(map(kind, self.ranks))
        ranks: Counter[str] = Counter()
        for name, r in self.ranks.items():
            ranks[kind(name)] += r
        largest = max((self.layers[name] for name in self.ranks), key=lambda one: one.inputs * one.outputs, default=None)
        return Trains(
            shares={name: count / every[name] for name, count in there.items()},
            ranks={name: total / every[name] for name, total in ranks.items()},
            matrices=self.matrices,
            lengths=self.lengths / self.config.layers,
            head=self.trains_head,
            frozen_head=self.has_frozen_head,
            largest=(largest.inputs, largest.outputs) if largest is not None and self.h.use_dora else (0, 0),
        )


def trained(h: Hyperparameters, config: ModelConfig) -> Trains:
    """What a run trains, for the bytes of activations."""
    return Trains() if h.full_finetuning else Adapter(h, config).trains


def _names(linear: Linear, config: ModelConfig) -> list[str]:
    """The names of a module in its layers: those with experts come last."""
    begin = config.layers - linear.count if linear.block == "mlp.shared_expert" else 0
    places = range(begin, begin + linear.count)
    return [f"model.layers.{n}.{linear.block}.{linear.name}" for n in places]


def _norms(config: ModelConfig) -> dict[str, int]:
    """Name -> weights of every norm."""
    of_layer = ["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"]
    inside = {"head": (config.head_dim, config.head_dim), "all": (config.queries, config.keys)}.get(config.qk_norm)
    found = {"model.norm": config.hidden}
    for n in range(config.layers):
        found |= {f"model.layers.{n}.{name}": config.hidden for name in of_layer[: config.norms]}
        if inside is not None:
            found |= {f"model.layers.{n}.self_attn.{name}": size for name, size in zip(("q_norm", "k_norm"), inside, strict=True)}
    return found


def _tensors(config: ModelConfig) -> Iterator[Tensor]:
    if not config.sparse_layers:
        return
    hidden, inner, experts = config.hidden, config.expert_inner, config.experts
    yield Tensor("mlp.gate", hidden + experts, 1)
    yield Tensor("mlp.experts.gate_up_proj", experts * (hidden + 2 * inner), 2)
    yield Tensor("mlp.experts.down_proj", experts * (inner + hidden), 1)
