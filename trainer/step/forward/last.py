"""The last decoder layer of a packed row on a CPU: of a prompt, only keys and values are needed.

Tokens that predict no token of an answer are left out of the layer's queries, attention output and MLP, forward and backward.
Their outputs are zero and have no gradient; outputs that are read do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

UNREAD: Final = ("q_proj", "o_proj", "mlp")  # modules that compute each token by itself, by the names of transformers' layers
ANSWERS: Final = "computes_answers_only"  # an attribute of the layer's attention, for ``attention.by_segments``


class LastLayer:
    """The last of ``layers``, if any; between ``place`` and ``remove`` it computes only the outputs that are read."""

    def __init__(self, layers: Sequence[nn.Module]):
        named = [(name.rpartition(".")[2], module) for layer in layers[-1:] for name, module in layer.named_modules()]
        # A router of experts is left alone: it reports on every token.
        self._unread = [module for name, module in named if name in UNREAD and not hasattr(module, "experts")]
        self._attention = [module for _, module in named if hasattr(module, "o_proj")]
        self.is_shorter = bool(self._unread)
        self._before: list[Any] = []
        self._places: Tensor | None = None

    def read(self, places: Tensor | None) -> None:
        """From now on only outputs at ``places``, [n], are read; None: all are."""
        if places is not None and self.is_shorter:
            places = places.clone()  # a view's base would be part of a compiled layer's guards
            torch._dynamo.maybe_mark_dynamic(places, 0)
        self._places = places

    def place(self) -> None:
        self._before = [vars(module).get("forward") for module in self._unread]
        for module in self._unread:
            module.forward = self._some(module.forward)
        for module in self._attention:
            setattr(module, ANSWERS, True)

    def remove(self) -> None:
        """The layer computes all tokens again."""
        for module, forward in zip(self._unread, self._before, strict=True):
            del module.forward
            if forward is not None:
                module.forward = forward
        for module in self._attention:
            delattr(module, ANSWERS)

    def _some(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def some(hidden: Tensor) -> Tensor:
            if self._places is None:
                return forward(hidden)
            found = forward(hidden.index_select(1, self._places))
            return found.new_zeros(1, hidden.shape[1], found.shape[2]).index_copy(1, self._places, found)

        return some
