"""Watches on a training's steps: their time on the device, and the memory that they take."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from transformers import TrainerCallback


class Watch(TrainerCallback):
    """Marks the begin of every step, on a GPU in its stream: nothing waits for it.

    ``warm``: steps that do not count.
    """

    trainer: Any = None

    def __init__(self, device: str, warm: int):
        self._cuda, self._warm = device == "cuda", warm
        self._marks: list[Any] = []
        self._began = time.perf_counter()
        self.first_step = 0.0  # seconds until the first step had ended
        self.peak: int | None = None  # bytes of tensors, in the steps that count; None on a CPU

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._cuda and state.global_step == self._warm:
            import torch

            torch.cuda.reset_peak_memory_stats()
        self._mark()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            self.first_step = time.perf_counter() - self._began
        if state.global_step == state.max_steps:
            self._mark()
            if self._cuda:
                import torch

                torch.cuda.synchronize()
                self.peak = torch.cuda.max_memory_allocated()

    def _mark(self) -> None:
        if not self._cuda:
            self._marks.append(time.perf_counter())
            return
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    @property
    def seconds(self) -> list[float]:
        """Of each step that counts, from its begin to the next one's."""
        marks = self._marks[self._warm :]
        return [a.elapsed_time(b) / 1000 if self._cuda else b - a for a, b in pairwise(marks)]
