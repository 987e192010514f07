"""Rows of a step that are replayed: forward pass, backward pass and figures of a row are recorded once for each shape of a row.

What is recorded holds addresses and shapes, so the numbers of a row are copied to where those of the first one lay, and the
gradients of a step are added where those of the step before were. The recorder is a CUDA graph's on a GPU: one launch a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from ..batches.packing import Row
from .compiled import reason

MOST: Final = 32  # recorded shapes: a graph takes memory of its own, and a rare shape does not repay it

Pass = Callable[[Row, Tensor], Sequence[Tensor]]  # (row, weight) -> all that the device computes of a row
Shape = tuple[int, ...]


class Recorder(Protocol):
    def eager(self) -> AbstractContextManager[None]:
        """For work that is computed at once, where the recorded work is."""

    def strict(self) -> AbstractContextManager[None]:
        """Work that waits for the device, and so cannot be recorded, raises RuntimeError within it."""

    def record(self, work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
        """(what ``work`` gives, not computed yet; a function that computes it as often as it is called).

        Raises whatever makes recording impossible.
        """

    def forget(self) -> None:
        """Gives the memory of the recorded work back."""


@dataclass(frozen=True)
class Recorded:
    buffer: Tensor  # a row's numbers
    found: Sequence[Tensor]
    replay: Callable[[], None]


class RowGraphs:
    """Computes rows: the first of a shape eagerly, the second is recorded, and from then on the record is replayed.

    All three give the same numbers: they are the same operations on rows of the same shape. Where recording fails, ``why`` is
    its reason, and all rows are eager from then on: a capture that has failed may leave earlier ones unusable.
    """

    def __init__(self, recorder: Recorder, parameters: Iterable[Parameter], device: torch.device):
        """``parameters``: of the model, of which some are trained."""
        self.why: str | None = None
        self.is_recording = True
        self.say: Callable[[str], None] = lambda why: None  # is given the reason when recording fails
        self._recorder, self._device = recorder, device
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._gradients: list[tuple[Parameter, Tensor]] | None = None  # of those that a row gives one
        self._weight, self._value = torch.zeros((), dtype=torch.float64, device=device), 0.0
        self._seen: set[Shape] = set()
        self._recorded: dict[Shape, Recorded] = {}

    def __len__(self) -> int:
        """How many shapes are recorded."""
        return len(self._recorded)

    def hold_gradients(self) -> None:
        """To be called before the rows of a step: its gradients lie where those of the first step lay."""
        if self._gradients is None:
            return
        empty = [held for parameter, held in self._gradients if parameter.grad is None]
        if empty:
            torch._foreach_zero_(empty)
        for parameter, held in self._gradients:
            if parameter.grad is not None and parameter.grad is not held:
                held.copy_(parameter.grad)
            parameter.grad = held

    def __call__(self, row: Row, weight: float, compute: Pass) -> list[Tensor]:
        """What ``compute`` gives of the row, in tensors that stay; the gradients have been added."""
        if weight != self._value:
            self._weight.fill_(weight)
            self._value = weight
        known = self._recorded.get(row.shape) or self._record(row, compute)
        if known is None:
            return self._eager(row, compute)
        known.buffer.copy_(row.buffer if self._device.type == "cpu" else row.buffer.pin_memory(), non_blocking=True)
        known.replay()
        return [found.clone() for found in known.found]

    def forget(self) -> None:
        """Drops what is recorded, as before rows of other lengths."""
        self._recorded.clear()
        self._seen.clear()
        self._recorder.forget()

    def _eager(self, row: Row, compute: Pass) -> list[Tensor]:
        here = row.to(self._device)
        with self._recorder.eager() if self.why is None else nullcontext():
            found = compute(here, self._weight)
        self._seen.add(row.shape)
        if self._gradients is None:  # a weight that no row reaches keeps none: the optimizer leaves it alone
            self._gradients = [(p, torch.zeros_like(p)) for p in self._parameters if p.grad is not None]
            self.hold_gradients()
        return [one.clone() for one in found]

    def _record(self, row: Row, compute: Pass) -> Recorded | None:
        """None for the first row of a shape, for a shape too many, and where recording has failed."""
        if not self.is_recording or self.why is not None or row.shape not in self._seen or len(self) >= MOST:
            return None
        buffer = row.buffer.to(self._device, copy=True)
        without = [parameter for parameter in self._parameters if parameter.grad is None]
        held = {id(parameter) for parameter, _ in self._gradients or ()}
        try:
            found, replay = self._recorder.record(lambda: compute(row.at(buffer), self._weight))
            if any(p.grad is not None and id(p) not in held for p in self._parameters):
                raise RuntimeError("a weight has a gradient that earlier rows had not")
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the model's own code and CUDA raise
            for parameter in without:  # what the recording has given it was never computed
                parameter.grad = None
            self.why = reason(error)
        if self.why is not None:  # outside: the error's frames hold what the row has kept for its backward pass
            self.forget()
            self.say(self.why)
            return None
        self._recorded[row.shape] = Recorded(buffer, found, replay)
        return self._recorded[row.shape]
