"""Adapted: which modules the LoRA settings other than ``target_modules`` select, and a mistake for each unknown name. Pure.

The rules are PEFT's. ``check``, the planner and the trainer share them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..errors import Mistake
from .sections.lora import LoraSettings
from .sections.targets import Modules, asked, did_you_mean, is_all_linear, is_table, kind, nearest_kinds

_SHOWN: Final = 12  # names per message
_NUMBERED: Final = re.compile(r".*?\.[^.]*\.(\d+)\.")  # the first number in a module's name; PEFT takes it for the layer


def adapted(h: LoraSettings, modules: Modules) -> list[str]:
    """Names of the modules that get an adapter."""
    if is_all_linear(h.target_modules):
        found = [name for name in modules.trained if not is_table(kind(name))]
    else:
        found = asked(h.target_modules, modules)
    return [name for name in found if stays(h, name, modules)]


def stays(h: LoraSettings, name: str, modules: Modules) -> bool:
    """Whether the target module ``name`` gets an adapter: not excluded, not trained whole, and in ``layers_to_transform``."""
    if named(h.exclude_modules, (name,), modules) or any(_holds(copy, name, modules) for copy in h.modules_to_save):
        return False
    is_whole = not isinstance(h.target_modules, str) and name in h.target_modules  # then PEFT ignores the layer
    return not h.layers_to_transform or is_whole or layer_of(name) in h.layers_to_transform


def named(names: str | Iterable[str], among: Iterable[str], modules: Modules) -> list[str]:
    """The names in ``among`` that match a pattern or a list of names."""
    if isinstance(names, str):
        return modules.matched(names, among)
    found = {one for name in names for one in modules.named(name, among)}
    return [one for one in among if one in found]


def _holds(copy: str, name: str, modules: Modules) -> bool:
    """Whether ``name`` is the module ``copy`` or lies inside it."""
    return any(f".{root}{name}.".find(f".{copy}.") >= 0 for root in modules.roots)


def layer_of(name: str) -> int | None:
    """The decoder layer's number in a module's name; None outside of the layers."""
    found = _NUMBERED.match(f".{name}")
    return None if found is None else int(found[1])


def of_pattern(patterns: Mapping[str, Any], name: str, roots: Iterable[str] = ("",)) -> str | None:
    """The first key of ``rank_pattern`` or ``alpha_pattern`` that matches the module ``name``."""
    return next((key for key in patterns if any(re.match(rf"(.*\.)?({key})$", root + name) for root in roots)), None)


def wrong_names(h: LoraSettings, modules: Modules, model_name: str) -> list[Mistake]:
    """A mistake for each name or number in these LoRA settings that matches nothing in ``model_name``."""
    return [
        *_wrong_excluded(h, modules, model_name),
        *_wrong_layers(h, modules, model_name),
        *_wrong_patterns(h, modules, model_name),
        *_wrong_copies(h, modules, model_name),
        *_wrong_parameters(h, modules, model_name),
    ]


def _wrong_excluded(h: LoraSettings, modules: Modules, model_name: str) -> Iterator[Mistake]:
    key, every = "hyperparameters.exclude_modules", (*modules.trained, *modules.refused)
    if isinstance(h.exclude_modules, str):
        if not modules.matched(h.exclude_modules, every):
            what = f"the pattern {h.exclude_modules!r} matches no module of {model_name}"
            yield Mistake(key, what, "a list of names, or a pattern for whole names")
        return
    for place, name in enumerate(h.exclude_modules):
        if not modules.named(name, every) and _last(name) not in modules.maybe:
            yield _unknown(f"{key}.{place}", name, modules.kinds, model_name)


def _wrong_layers(h: LoraSettings, modules: Modules, model_name: str) -> Iterator[Mistake]:
    numbers = {number for name in modules.trained if (number := layer_of(name)) is not None}
    for place, number in enumerate(h.layers_to_transform):
        if number not in numbers:
            expected = f"a number from {min(numbers)} to {max(numbers)}" if numbers else "empty: no layer has a number"
            what = f"{model_name} has no layer {number}"
            yield Mistake(f"hyperparameters.layers_to_transform.{place}", what, expected, str(number))


def _wrong_patterns(h: LoraSettings, modules: Modules, model_name: str) -> Iterator[Mistake]:
    if modules.parameters is None and modules.together:
        return  # weight files name experts differently than the loaded model
    there = list(dict.fromkeys(modules.now.get(name, name) for name in adapted(h, modules)))
    kinds = list(dict.fromkeys([*map(kind, there), *h.target_parameters]))
    for setting in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(h, setting):
            if any(of_pattern({pattern: 0}, name, modules.roots) for name in (*there, *h.target_parameters)):
                continue
            if any(word in modules.maybe for word in re.findall(r"\w+", pattern)):
                continue
            where, is_module = f"hyperparameters.{setting}.{pattern}", modules.named(pattern, modules.trained)
            if is_module:
                yield Mistake(where, f"{pattern!r} of {model_name} gets no adapter", ", ".join(kinds[:_SHOWN]))
            else:
                yield _unknown(where, pattern, kinds, model_name)


def _wrong_copies(h: LoraSettings, modules: Modules, model_name: str) -> Iterator[Mistake]:
    every = (*modules.trained, *modules.refused)
    for place, name in enumerate(h.modules_to_save):
        where, found = f"hyperparameters.modules_to_save.{place}", modules.named(name, every)
        inside = list(dict.fromkeys(kind(one) for one in every if any(one.startswith(f"{block}.") for block in found)))
        what = f"{name!r} of {model_name} is a block of several modules"
        quantised = "load_in_4bit" if h.load_in_4bit else "load_in_8bit" if h.load_in_8bit else None
        if inside:
            yield Mistake(where, what, ", ".join(inside[:_SHOWN]), hint="name its modules")
        elif not found and _last(name) not in modules.maybe:
            yield _unknown(where, name, list(dict.fromkeys(map(kind, copyable(modules)))), model_name)
        elif quantised and any(one in modules.trained and not is_table(kind(one)) for one in found):
            yield Mistake(
                where, f"{name!r} is quantised by {quantised}: it cannot be trained whole", "an embedding, a head or a norm"
            )


def copyable(modules: Modules) -> list[str]:
    """Modules without submodules, for ``modules_to_save``: the embedding and the head first, the usual choice."""
    every = [*modules.trained, *modules.refused]
    above = {name.rsplit(".", depth)[0] for name in every for depth in range(1, name.count(".") + 1)}
    return sorted((name for name in every if name not in above), key=lambda name: not is_table(kind(name)))


def _wrong_parameters(h: LoraSettings, modules: Modules, model_name: str) -> Iterator[Mistake]:
    if modules.parameters is None:
        return
    for place, name in enumerate(h.target_parameters):
        if any(f".{one}".endswith(f".{name}") for one in modules.parameters):
            continue
        where = f"hyperparameters.target_parameters.{place}"
        there = list(dict.fromkeys(".".join(one.split(".")[-3:]) for one in modules.parameters))
        owner = name.removesuffix(".weight")
        if modules.named(owner, modules.trained):
            what = f"{name!r} of {model_name} belongs to a layer"
            yield Mistake(where, what, ", ".join(there[:_SHOWN]) or "empty", hint=f"write target_modules: [{_last(owner)}]")
        else:
            what = f"{name!r} matches no parameter of {model_name} outside of its layers"
            hint = None if there else "this model has its experts in layers, or none: use target_modules"
            yield Mistake(where, what, ", ".join(there[:_SHOWN]) or "empty", hint=hint)


def _unknown(where: str, name: str, kinds: Sequence[str], model_name: str) -> Mistake:
    last = _last(name)
    what = f"{name!r} matches no module of {model_name}"
    hint = "it is a module of the model, in another place" if last != name and last in kinds else did_you_mean(last, kinds)
    return Mistake(where, what, ", ".join(nearest_kinds(last, kinds)[:_SHOWN]), hint=hint)


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
