"""Replayed rows: forward pass, backward pass and metrics of a row are recorded once for each shape.

A recording holds addresses and shapes. So a row's numbers are copied to the memory of the first row of its shape, and a step's
gradients to that of the first step's. On a GPU the recorder makes a CUDA graph: one launch per row.
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
        """A context for work that is computed at once, on the recorder's stream and in its memory."""

    def strict(self) -> AbstractContextManager[None]:
        """A context in which work that waits for the device, and so cannot be recorded, raises RuntimeError."""

    def record(self, work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
        """(the result of ``work``, not computed yet; a function that computes it at each call).

        Raises whatever makes recording impossible.
        """

    def forget(self) -> None:
        """Frees the memory of the recorded work."""


@dataclass(frozen=True)
class Recorded:
    buffer: Tensor  # a row's numbers
    found: Sequence[Tensor]
    replay: Callable[[], None]


class RowGraphs:
    """Computes rows: the first of a shape eagerly; the second is recorded; later ones are replayed.

    All three give the same numbers, because they are the same operations on rows of one shape. If recording fails, ``why`` is the
    reason and all later rows are eager: a failed capture may make earlier ones unusable.
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
        """Call before the rows of a step: its gradients then use the memory of the first step's."""
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
        """The result of ``compute`` for the row, in tensors that later rows do not overwrite; the gradients have been added."""
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
        """Drops all recordings, for example before rows of other lengths."""
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
        """None for the first row of a shape, if there are too many shapes, and after recording has failed."""
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
