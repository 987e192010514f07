"""Dropout and noise that a model draws without a module of its own, which TRL's ``disable_dropout`` does not reach."""

from __future__ import annotations

import re
from typing import Final

import torch

_RANDOM: Final = re.compile(r"drop|jitter")


def silence(model: torch.nn.Module) -> list[str]:
    """Turns off what modules draw by a number of their own, and returns the names of these numbers.

    Attention and MLP blocks of many models call ``functional.dropout`` or skip a layer with a probability that they keep as an
    attribute (``attention_dropout``, ``dropout``, ``layerdrop``), routers multiply by random numbers (``jitter_noise``). Modules
    of ``nn.Dropout`` are TRL's to turn off. The configuration, which is saved with the model, keeps its values.
    """
    found = set()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            continue
        for name, value in vars(module).items():
            if isinstance(value, float) and value > 0 and _RANDOM.search(name):
                setattr(module, name, 0.0)
                found.add(name)
    return sorted(found)
