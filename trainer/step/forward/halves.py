"""16-bit copies of the adapter's fp32 matrices, made once a step.

Autocast casts each matrix in every row, and casts its 16-bit gradient back before it is added to the fp32 ``.grad``. Here the
copies are leaves that stand in the adapter's modules while rows are computed, and the same 16-bit gradients are cast together
after each row. The sums are equal bit for bit, and two operations a row replace 28 casts a layer and row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import nn


class Halves:
    """Lends copies of type ``half`` to the LoRA modules of ``model`` whose base weights have that type too; None: lends none.

    Adapters of embeddings, of 4- and 8-bit weights and of variants of LoRA keep what PEFT does.
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
        """The copies stand in the modules, and hold the weights of now; the weights are back when it ends, however it ends.

        Gives what must be called after each backward pass: it adds the gradients of the copies to those of the weights.
        """
        masters = [linear.weight for linear in self._linears]  # a checkpoint may have put others there
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
        """Drops gradients of the copies that a backward pass has left behind, as one that failed."""
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
