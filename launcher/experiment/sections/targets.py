"""Targets: which modules ``target_modules`` names. ``check`` and the trainer share these rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import Final

from ...errors import Mistake

KEY: Final = "hyperparameters.target_modules"
ALL_LINEAR: Final = "all-linear"
_CLOSE: Final = 0.75  # required similarity of two names; most end in _proj

# Layers by the end of their names -> families in which they cannot be adapted. PEFT rejects the first two.
_MAMBA: Final = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")
UNTRAINED: Final = MappingProxyType({"out_proj": _MAMBA, "conv1d": _MAMBA, "dt_proj": ("mamba",)})
DIRECT: Final = "the model uses its weight directly, without an adapter"

# Names of one layer in different models: same meaning is suggested before similar spelling.
_SAME: Final = (
    ("q_proj", "q", "wq", "query", "q_lin", "to_q", "query_proj"),
    ("k_proj", "k", "wk", "key", "k_lin", "to_k", "key_proj"),
    ("v_proj", "v", "wv", "value", "v_lin", "to_v", "value_proj"),
    ("qkv_proj", "qkv", "c_attn", "query_key_value", "Wqkv", "W_pack", "att_proj"),
    ("o_proj", "o", "wo", "out_proj", "dense", "c_proj", "attn_out", "output_proj", "to_out"),
    ("gate_proj", "gate", "w1"),
    ("up_proj", "up", "w3", "fc1", "fc_in", "c_fc", "dense_h_to_4h", "lin1", "ff_proj"),
    ("gate_up_proj", "gate_up", "w13"),
    ("down_proj", "down", "w2", "fc2", "fc_out", "c_proj", "dense_4h_to_h", "lin2", "ff_out"),
    ("lm_head", "head", "embed_out", "output"),
    ("embed_tokens", "wte", "word_embeddings", "embed_in", "embeddings", "tok_embeddings", "embedding"),
)
_FUSED: Final = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass(frozen=True)
class Modules:
    """The modules of a model by their dotted names, in the model's order.

    ``trained``: those that can be adapted. ``refused``: all others -> the reason if there is a special one, else "". ``maybe``:
    last parts of further names that may exist. ``roots``: possible prefixes. ``together``: last parts of names that one fused
    expert tensor contains, adapted together or not at all. ``parameters``: names of tensors outside of layers, such as experts;
    None if unknown. ``now``: trained module -> its tensor, by whose name PEFT looks up the rank.
    """

    trained: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    maybe: frozenset[str] = frozenset()
    roots: tuple[str, ...] = ("",)
    together: tuple[tuple[str, ...], ...] = ()
    parameters: tuple[str, ...] | None = None
    now: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The distinct last parts of the names of ``trained``."""
        return tuple(dict.fromkeys(kind(name) for name in self.trained))

    def named(self, target: str, names: Iterable[str]) -> list[str]:
        """The ``names`` that an item of a list matches, as in PEFT: the whole name, or its end."""
        return [name for name in names if any(f".{root}{name}".endswith(f".{target}") for root in self.roots)]

    def matched(self, pattern: str, names: Iterable[str]) -> list[str]:
        """The ``names`` that a pattern matches as a whole, as in PEFT."""
        return [name for name in names if any(re.fullmatch(pattern, root + name) for root in self.roots)]


def kind(name: str) -> str:
    """The last part of a module's name that is not a number: ``q_proj`` of ``model.layers.0.self_attn.q_proj``."""
    parts = name.split(".")
    return next((part for part in reversed(parts) if not part.isdigit()), name)


def is_all_linear(targets: str | Sequence[str]) -> bool:
    """Whether the setting means every linear layer."""
    return isinstance(targets, str) and targets.lower() == ALL_LINEAR


def asked(targets: str | Sequence[str], modules: Modules) -> list[str]:
    """The modules of ``trained`` that ``targets`` names; not for ``all-linear``."""
    if isinstance(targets, str):
        return modules.matched(targets, modules.trained)
    return [name for name in modules.trained if any(modules.named(target, (name,)) for target in targets)]


def wrong_targets(targets: str | Sequence[str], modules: Modules, model_name: str) -> list[Mistake]:
    """A mistake for each part of ``targets`` that matches no module of ``model_name``, or one that cannot be adapted."""
    if is_all_linear(targets):
        return []
    if isinstance(targets, str):
        return list(_wrong_pattern(targets, modules, model_name))
    found = (_wrong_name(f"{KEY}.{place}", target, modules, model_name) for place, target in enumerate(targets))
    return [*(mistake for mistake in found if mistake is not None), *_parted(targets, modules, model_name)]


def _parted(targets: Sequence[str], modules: Modules, model_name: str) -> Iterator[Mistake]:
    last = [target.rsplit(".", 1)[-1] for target in targets]
    for group in modules.together:
        missing = [name for name in group if name not in last]
        for place, name in enumerate(last):
            if missing and name in group:
                what = f"{name!r} of {model_name} cannot be trained without {', '.join(missing)}"
                yield Mistake(f"{KEY}.{place}", what, f"{', '.join(group)} together", "one tensor of the experts holds them")


def _wrong_name(where: str, target: str, modules: Modules, model_name: str) -> Mistake | None:
    if target.rsplit(".", 1)[-1] in modules.maybe:
        return None
    if refused := modules.named(target, modules.refused):
        return Mistake(
            where, f"{target!r} of {model_name} cannot be trained", _below(refused, modules), _why(refused[0], modules)
        )
    if modules.named(target, modules.trained):
        return None
    if target.lower() == ALL_LINEAR:
        return Mistake(where, f"{ALL_LINEAR} is not the name of a module", hint=f"write it alone: target_modules: {ALL_LINEAR}")
    last = target.rsplit(".", 1)[-1]
    hint = "it is a module of the model, in another place" if last != target and last in modules.kinds else None
    what = f"{target!r} matches no module of {model_name}"
    return Mistake(where, what, ", ".join(nearest_kinds(last, modules.kinds)), hint=hint or did_you_mean(last, modules.kinds))


def _wrong_pattern(pattern: str, modules: Modules, model_name: str) -> Iterator[Mistake]:
    """The mistake of a single text, which is a pattern for whole names: a plain name matches nothing."""
    try:
        found = modules.matched(pattern, modules.trained)
    except re.error as error:
        yield Mistake(KEY, f"{pattern!r} is not a valid pattern: {error}", f"{ALL_LINEAR}, a list of names, or a pattern")
        return
    if refused := modules.matched(pattern, modules.refused):
        what = f"the pattern {pattern!r} also matches {refused[0]}, which cannot be trained"
        yield Mistake(KEY, what, "a pattern for layers only", _why(refused[0], modules))
    elif not found and not _may_match(pattern, modules):
        example = max(modules.trained, key=lambda name: name.count("."), default="model.layers.0.self_attn.q_proj")
        what = f"the pattern {pattern!r} matches no module of {model_name}"
        expected = f"{ALL_LINEAR}, a list of names, or a pattern for whole names such as {example}"
        yield Mistake(KEY, what, expected, hint=_meant(pattern, modules))


def _may_match(pattern: str, modules: Modules) -> bool:
    return any(word in modules.maybe for word in re.findall(r"\w+", pattern))


def _meant(pattern: str, modules: Modules) -> str | None:
    """What to write for a text that is not a pattern."""
    names = [name for name in re.split(r"[\s,|;]+", pattern.strip("[]() ")) if name]
    if names and all(modules.named(name, modules.trained) for name in names):
        return f"write a list: [{', '.join(names)}]"
    if SequenceMatcher(None, re.sub(r"[_\s]", "-", pattern.lower()), ALL_LINEAR).ratio() >= _CLOSE or pattern.lower() == "all":
        return f"did you mean {ALL_LINEAR!r}?"
    return did_you_mean(names[0], modules.kinds) if len(names) == 1 else None


def _why(name: str, modules: Modules) -> str:
    is_block = any(one.startswith(f"{name}.") for one in modules.trained)
    other = "a block of several layers" if is_block else "not a linear layer, an embedding or a convolution"
    return f"{name}: {modules.refused[name] or other}"


def untrained(name: str, family: str) -> bool:
    """Whether the layer ``name`` cannot be adapted in a model of ``family`` (its ``model_type``)."""
    return family in UNTRAINED.get(kind(name), ())


def _below(refused: Sequence[str], modules: Modules) -> str:
    """The layers inside of a named block, else all layers of the model."""
    inside = [kind(name) for name in modules.trained if any(name.startswith(f"{block}.") for block in refused)]
    return ", ".join(dict.fromkeys(inside or modules.kinds))


def nearest_kinds(name: str, kinds: Sequence[str]) -> list[str]:
    """``kinds`` with the same meaning as ``name``, then those with similar spelling."""
    same = _same(name, kinds)
    return same + sorted((one for one in kinds if one not in same), key=lambda one: -SequenceMatcher(None, name, one).ratio())


def did_you_mean(name: str, kinds: Sequence[str]) -> str | None:
    """A hint with the likely names among ``kinds``; None if there are none."""
    close = _same(name, kinds) or [
        one for one in nearest_kinds(name, kinds)[:1] if SequenceMatcher(None, name, one).ratio() >= _CLOSE
    ]
    return f"did you mean {', '.join(map(repr, close))}?" if close else None


def is_table(name: str) -> bool:
    """Whether layers called ``name`` are the embedding or the head."""
    return bool(_layers(name) & {"embed_tokens", "lm_head"})


def _same(name: str, kinds: Sequence[str]) -> list[str]:
    """The ``kinds`` with the same meaning, in the order of a Llama."""
    meant, order = _meanings(name), [names[0] for names in _SAME]
    same = [one for one in kinds if meant & _layers(one)]
    return sorted(same, key=lambda one: min(order.index(layer) for layer in meant & _layers(one)))


def _layers(name: str) -> set[str]:
    """The Llama names of the layers that ``name`` can mean."""
    return {names[0] for names in _SAME if name in names or name.lower() in names}


def _meanings(name: str) -> set[str]:
    """The same, plus the fused layers that contain it and the layers that a fused one contains."""
    own = _layers(name)
    holding = {fused for fused, held in _FUSED.items() if own & set(held)}
    return own | holding | {one for fused, held in _FUSED.items() if fused in own for one in held}
