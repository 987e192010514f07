"""16-bit copies of the adapter's fp32 matrices, made once a step.

Autocast casts each matrix for every row, and casts its 16-bit gradient back before adding it to the fp32 ``.grad``. Here the
copies are leaves that replace the adapter's weights while rows are computed, and their 16-bit gradients are cast together after
each row. The sums are bit for bit the same, and two operations per row replace 28 casts per layer and row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import nn


class Halves:
    """Lends 16-bit copies to the LoRA modules of ``model`` whose base weights have the type ``half``; None: to none.

    Adapters on embeddings and on 4- and 8-bit weights, and variants of LoRA, are left to PEFT.
    """

    def __init__(self, model: nn.Module, half: torch.dtype | None):
        self._half = half
        self._linears = [] if half is None else [one for module in model.modules() for one in _lora(module, half)]
        self._copies: list[nn.Parameter] = []

    def __len__(self) -> int:
        """How many matrices have a copy."""
        return len(self._linears)

    @contextmanager
    def lent(self) -> Iterator[Callable[[], None]]:
        """Replaces the weights by copies of their current values, and restores them on exit, also after an error.

        Yields a function to call after each backward pass: it adds the copies' gradients to those of the weights.
        """
        masters = [linear.weight for linear in self._linears]  # loading a checkpoint may have replaced them
        with torch.no_grad():
            self._fill(masters)
        try:
            for linear, copy in zip(self._linears, self._copies, strict=True):
                linear.weight = copy
            yield lambda: self._collect(masters)
        finally:
            for linear, copy, master in zip(self._linears, self._copies, masters, strict=True):
                linear.weight, copy.grad = master, None

    def _fill(self, masters: list[nn.Parameter]) -> None:
        if len(self._copies) != len(masters):
            self._copies = [nn.Parameter(torch.empty_like(master, dtype=self._half)) for master in masters]
        if masters:
            torch._foreach_copy_(self._copies, masters)

    def forget(self) -> None:
        """Drops the copies' gradients, such as those of a backward pass that failed."""
        for copy in self._copies:
            copy.grad = None

    @torch.no_grad()
    def _collect(self, masters: list[nn.Parameter]) -> None:
        found = [(copy, master) for copy, master in zip(self._copies, masters, strict=True) if copy.grad is not None]
        if not found:
            return
        wide = [torch.empty_like(master) for _, master in found]
        torch._foreach_copy_(wide, [copy.grad for copy, _ in found])
        sums, parts = [], []
        for (copy, master), gradient in zip(found, wide, strict=True):
            copy.grad = None
            if master.grad is None:
                master.grad = gradient
            else:
                sums.append(master.grad)
                parts.append(gradient)
        if sums:
            torch._foreach_add_(sums, parts)


def _lora(module: nn.Module, half: torch.dtype) -> Iterator[nn.Linear]:
    """The trained fp32 matrices of one LoRA module over weights of type ``half``."""
    if not isinstance(module, LoraLayer) or module.lora_variant or not isinstance(module.get_base_layer(), nn.Linear):
        return
    if getattr(module.get_base_layer().weight, "dtype", None) != half:
        return
    for linear in (*module.lora_A.values(), *module.lora_B.values()):
        if isinstance(linear, nn.Linear) and linear.weight.requires_grad and linear.weight.dtype == torch.float32:
            yield linear
