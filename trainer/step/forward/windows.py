"""Sliding windows: how many tokens a token of each decoder layer sees, itself among them; 0 where it sees all before it.

A window counts positions, so an answer's tokens see as much of their prompt as in a sequence of their own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from torch import nn

FULL, SLIDING = "full_attention", "sliding_attention"  # transformers' names of a layer's type
WINDOW: Final = "sliding_window_of_rows"  # an attribute of a layer's modules, for ``attention.by_segments``


def windows(causal: Any) -> list[int]:
    """The window of each decoder layer of a causal language model, by its configuration, as transformers makes its masks.

    Empty where no layer has one.
    """
    config = causal.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if not window:
        return []
    kinds = getattr(config, "layer_types", None) or [SLIDING] * config.num_hidden_layers
    found = [window if kind == SLIDING else 0 for kind in kinds]
    return found if any(found) else []


def takes_rows(causal: Any, layers: Sequence[nn.Module]) -> bool:
    """Whether packed rows can tell each of the decoder ``layers`` its window.

    Transformers' masks tell them: one mask for all layers, or one for each kind of layer.
    """
    module, found = sys.modules[type(causal).__module__], windows(causal)
    if len(found) != len(layers) or not hasattr(module, "create_sliding_window_causal_mask"):
        return False
    return len(set(found)) == 1 or "attention_mask, dict)" in inspect.getsource(module)


def masks(of_windows: Iterable[int], made: Mapping[int, object]) -> object:
    """What a model takes as ``attention_mask``, of the mask for each window: one mask, or one for each kind of layer."""
    kinds = sorted(set(of_windows))
    return made[kinds[0]] if len(kinds) == 1 else {SLIDING if window else FULL: made[window] for window in kinds}


def place(layers: Sequence[nn.Module], of_windows: Sequence[int]) -> None:
    """Every module of a decoder layer knows its layer's window, until ``remove``."""
    for layer, window in zip(layers, of_windows, strict=True):
        for module in layer.modules() if window else ():
            setattr(module, WINDOW, window)


def remove(layers: Sequence[nn.Module]) -> None:
    """Undoes ``place``."""
    for layer in layers:
        for module in layer.modules():
            vars(module).pop(WINDOW, None)
