"""Finds and disables everything random in a model's training. TRL's ``disable_dropout`` reaches only ``nn.Dropout`` modules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.nn.modules.dropout import _DropoutNd

_RANDOM: Final = re.compile(r"drop|noise")
_JITTER: Final = re.compile(r"jitter")
_KEPT: Final = "numbers_of_dropout"  # attribute of a changed model: (configuration, name, number)


def silence(model: torch.nn.Module) -> None:
    """Disables everything random in the model's training.

    Many models call ``functional.dropout``, or skip a layer with a probability that they store themselves
    (``attention_dropout``, ``dropout``, ``layerdrop``) or read from the configuration: these are set to 0. Routers with random
    numbers (``jitter_noise``) or random experts stay in evaluation mode instead, as the number may be part of what they
    compute. ``true_config`` restores the configuration for saving.
    """
    kept: list[tuple[Any, str, float]] = []
    for module in model.modules():
        numbers = list(_numbers(module))
        if any(_JITTER.search(name) for name, _ in numbers):
            module.register_forward_pre_hook(_as_in_evaluation)
        for name, _ in numbers:
            if not _JITTER.search(name):
                setattr(module, name, 0.0)
    for config in _configs(getattr(model, "config", None)):
        for name, number in _random(vars(config)):
            if not _JITTER.search(name):
                kept.append((config, name, number))
                setattr(config, name, 0.0)
    setattr(model, _KEPT, kept)


def _as_in_evaluation(module: torch.nn.Module, args: Any) -> None:
    module.training = False


@contextmanager
def true_config(model: Any) -> Iterator[None]:
    """Restores the model's original configuration during the block, so that it is saved with its own dropout."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kept = getattr(base, _KEPT, [])
    for config, name, number in kept:
        setattr(config, name, number)
    try:
        yield
    finally:
        for config, name, _ in kept:
            setattr(config, name, 0.0)


def drawn(model: torch.nn.Module, *, with_adapter: bool) -> list[str]:
    """The model's random parts in training, such as ``attention_dropout 0.1``, each once.

    ``with_adapter``: also the dropout before an adapter, which changes nothing while the adapter is new.
    """
    found = dict.fromkeys(
        f"{_shown(path, name)} {number:g}"
        for path, module in model.named_modules()
        if _as_in_evaluation not in module._forward_pre_hooks.values() and (with_adapter or "lora_dropout" not in path)
        for name, number in _numbers(module)
    )
    known = {word for one in found for word in one.split()}  # (module, number) that the module has under another name
    for config in _configs(getattr(model, "config", None)):
        numbers = ((name, number) for name, number in _random(vars(config)) if not _JITTER.search(name))  # routers have theirs
        found |= {f"{name} {number:g}": None for name, number in numbers if not {name, f"{number:g}"} & known}
    return list(found)


def _shown(path: str, name: str) -> str:
    """A dropout module under its own name, because its number is called ``p``."""
    parts = [part for part in path.split(".") if not part.isdigit() and part != "default"]
    return parts[-1] if name == "p" and parts else name


def _numbers(module: torch.nn.Module) -> Iterator[tuple[str, float]]:
    if isinstance(module, _DropoutNd) or "drop" in type(module).__name__.lower():
        p = getattr(module, "p", None)
        if _is_probability(p):
            yield "p", p
    yield from _random(vars(module))


def _random(values: Any) -> Iterator[tuple[str, float]]:
    """Positive numbers whose names indicate randomness."""
    for name, value in list(values.items()):
        if _is_probability(value) and (_RANDOM.search(name) or _JITTER.search(name)):
            yield name, value


def _is_probability(value: object) -> bool:
    return isinstance(value, float) and 0 < value <= 1


def _configs(config: Any) -> Iterator[Any]:
    """``config`` and nested ones, such as the text model's."""
    from transformers import PreTrainedConfig

    if isinstance(config, PreTrainedConfig):
        yield config
        for inner in vars(config).values():
            yield from _configs(inner)
