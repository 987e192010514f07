"""The step of the fast path: a rank's packed rows, computed again as shorter rows if memory runs out."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from launcher.errors import MemoryShortage, Warned
from launcher.planning.sizes.state import STATES

from ..inputs.tokens.token_pairs import TokenPairs
from ..output import notices
from ..processes.ranks.sharding import stage as zero_stage
from .batches.packing import first_fit, packed_lengths
from .batches.steps import Share, StepLoader, Steps
from .forward.halves import Halves
from .memory import as_in_training
from .packed import Fast
from .rows import RowTrainer, autocast_type


class FastTrainer(RowTrainer):
    """A trainer that starts on the plain path, TRL's own; ``take_fast_path`` switches it to packed rows.

    Both see the same pairs in the same step, whatever the number of ranks, and every pair weighs the same.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._micro_at_start = self.args.per_device_train_batch_size

    def take_fast_path(self, fast: Fast) -> None:
        """Trains and evaluates on packed rows from now on: one batch of transformers is a whole step of this rank."""
        self._fast, args = fast, self.args
        self._halves = Halves(self.model, None if zero_stage(self) else autocast_type(args))
        args.per_device_train_batch_size *= args.gradient_accumulation_steps
        args.gradient_accumulation_steps = 1
        self._train_batch_size = args.per_device_train_batch_size
        if zero_stage(self):
            # For DeepSpeed a row is a micro-batch, and there are at most as many as pairs.
            self.accelerator.state.deepspeed_plugin.deepspeed_config.update(
                train_micro_batch_size_per_gpu=1,
                gradient_accumulation_steps=args.per_device_train_batch_size,
                train_batch_size=args.per_device_train_batch_size * args.world_size,
            )

    def get_train_dataloader(self) -> Any:
        """On the fast path, this rank's shares of the steps, which accelerate does not split again."""
        return super().get_train_dataloader() if self._fast is None else StepLoader(len(self._fast.train.pairs), self.steps())

    def steps(self) -> Steps:
        """This rank's shares of the steps."""
        assert self._fast is not None, "the plain path has transformers' loader"
        args, pairs = self.args, self._fast.train.pairs
        seed = args.seed if args.data_seed is None else args.data_seed
        together = self._micro_at_start * args.world_size
        return Steps(
            pairs,
            batch=args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size,
            seed=None if args.train_sampling_strategy == "sequential" else seed,
            rank=args.process_index,
            world=args.world_size,
            budget=self._fast.budget if zero_stage(self) else None,
            kept=len(pairs) - (len(pairs) % together if args.dataloader_drop_last else 0),
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """A whole step of this rank: forward and backward row by row, one reduction of the gradients over the ranks.

        If memory runs out, the same step is computed again in shorter rows, down to one pair per row.
        """
        if self._fast is None:
            return super().training_step(model, inputs, num_items_in_batch)
        share: Share = inputs["share"]
        model.train()
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        mark = self._figures.mark()
        while (total := self._computed(model, share)) is None:
            self.model.zero_grad()
            self._figures.back_to(mark)
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()
        self._total_train_tokens += share.tokens
        self.pairs_trained += share.total
        return total

    def _computed(self, model: Any, share: Share) -> Tensor | None:
        """The share's part of the step's loss, after adding its gradient; None if it must be computed again."""
        try:
            return self._rows(model, share)
        except torch.OutOfMemoryError as error:
            if zero_stage(self) or not self._shorten(self._fast.train.pairs.take(share.pairs)):
                raise
            reason = str(error).splitlines()[0]
        # Here and not above: the error's frames hold what the failed row has kept for its backward pass.
        self._forget()
        what = f"out of memory at step {self.state.global_step + 1}: this and all later steps use rows of at most"
        notices([Warned(f"{what} {self._fast.budget:,} tokens ({reason})")])
        return None

    def _shorten(self, pairs: TokenPairs) -> bool:
        """Halves the longest row of ``pairs``; False if each pair already has its own row."""
        assert self._fast is not None, "rows are the fast path's"
        lengths = packed_lengths(pairs)
        rows = first_fit(lengths, self._fast.budget)
        if all(len(row) == 1 for row in rows):
            return False
        longest = max(int(lengths[row].sum()) for row in rows)
        half = max(1, min(longest, self._fast.budget) // 2)
        together = self.args.per_device_train_batch_size
        self._fast = replace(self._fast, budget=self._fast.packed.fit(self._fast.train.pairs, together, half))
        if self._fast.graphs is not None:
            self._fast.graphs.forget()
        return True

    def _forget(self) -> None:
        gc.collect()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()

    def try_longest(self) -> None:
        """Computes a row of the longest pairs and discards it, so that a shortage of memory shows now, not after hours."""
        if self._fast is None or zero_stage(self):
            return
        as_in_training(self)
        lengths = packed_lengths(self._fast.train.pairs)
        longest = np.argsort(-lengths, kind="stable")
        together = np.cumsum(lengths[longest])
        held = self._optimizer_room()
        while True:
            count = max(1, int(np.searchsorted(together, self._fast.budget, side="right")))
            share = Share(tuple(longest[:count].tolist()), count, 0, False, 1)
            done = self._computed(self.model, share) is not None
            self.model.zero_grad()
            self.culprits.forget()
            if done:
                del held
                self._forget()
                return

    def _optimizer_room(self) -> Tensor:
        """A tensor of as many bytes as the optimizer will allocate in its first step; empty if that is unknown."""
        name = str(getattr(self.args.optim, "value", self.args.optim))
        own = sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)
        size = 0 if name.startswith("paged") else int(STATES.get(name, 0) * own / 4)  # those of a weight in fp32
        return torch.empty(size, dtype=torch.uint8, device=self.accelerator.device)

    def shortage(self, error: torch.OutOfMemoryError) -> MemoryShortage:
        """The run's error if shorter rows do not help; the next attempt may take smaller micro-batches."""
        can_split = self._micro_at_start > 1 and (self._fast is None or zero_stage(self) > 0)
        advice = "retrying with smaller micro-batches" if can_split else "lower max_seq_length, or see `launcher plan`"
        return MemoryShortage(
            f"out of memory at step {self.state.global_step + 1}: {advice} ({str(error).splitlines()[0]})", can_split=can_split
        )
