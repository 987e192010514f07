"""The step of the fast path: packed rows, forward and backward one by one, shorter ones where memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from launcher.errors import MemoryShortage, Warned
from launcher.planning.state import STATES

from ..inputs.token_pairs import TokenPairs
from ..output import notices
from ..processes.sharding import stage as zero_stage
from .culprits import Culprits
from .figures import Figures
from .gradients import sum_gradients
from .graphs import RowGraphs
from .halves import Halves
from .losses import Ratios, pair_losses, smoothed
from .memory import as_in_training
from .packed import Fast, Scored
from .packing import Row, first_fit, packed_lengths, rows_of
from .plain import PlainTrainer
from .steps import Share, StepLoader, Steps


def rounded(beta: float, *, half: bool) -> float:
    """A margin up to this, in rewards, is rounding and no preference; ``half``: the step is in 16 bits."""
    return beta * (5e-2 if half else 1e-3)


class FastTrainer(PlainTrainer):
    """A trainer that starts on the plain path, TRL's own; ``take_fast_path`` switches it to packed rows.

    Both see the same pairs in the same step, whatever the number of ranks, and every pair weighs the same.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._fast: Fast | None = None
        self._weight: tuple[float, Tensor] | None = None
        self.culprits = Culprits()
        super().__init__(*args, **kwargs)
        self._micro_at_start = self.args.per_device_train_batch_size
        self._halves = Halves(self.model, None)
        self._figures = self.new_figures()
        self.loss_types, self.loss_weights = smoothed(self.loss_types, self.loss_weights, self.label_smoothing)

    def new_figures(self) -> Figures:
        """Sums of the figures of packed rows, still empty."""
        return Figures(self.accelerator.device, self.noise)

    def pair_weight(self, share: Share) -> float:
        """What a pair's loss of a row counts in the step: ``1 / total``, as the step's loss is the mean over its pairs."""
        return 1 / share.total

    def count_of(self, pairs: TokenPairs) -> int:
        """What the mean loss of ``pairs`` is a mean over: the pairs."""
        return len(pairs)

    def mean_loss(self, logps: Tensor, reference: Tensor, pairs: TokenPairs) -> Tensor:
        """The mean loss of ``pairs`` by their log-probabilities, [n, 2] of (chosen, rejected), and those of the reference."""
        tokens = torch.tensor(pairs.lengths[:, 1:], device=logps.device)
        ratios = logps - reference
        return pair_losses(self.args, Ratios(ratios[:, 0], ratios[:, 1], tokens[:, 0], tokens[:, 1])).mean()

    @property
    def noise(self) -> float:
        """Rewards up to which a margin is rounding: the reference and the policy see a pair in different rows."""
        return rounded(self.beta, half=self.args.bf16 or self.args.fp16)

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
        """Under the fast path, the shares of this rank; its reduction is DDP's and not accelerate's loader's."""
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

        Where the memory does not suffice the same step is computed again in shorter rows, until one holds a single pair.
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
        """The share's part of the step's loss, whose gradient has been added; None where it must be computed again."""
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

    def _rows(self, model: Any, share: Share) -> Tensor:
        """Forward and backward of the share's rows; no rank waits for another before all of them are done, unless weights or
        gradients are spread over the ranks: then every rank computes as many rows as the others, the last of them for nothing.
        """
        assert self._fast is not None, "rows are the fast path's"
        pairs = self._fast.train.pairs
        rows = rows_of(pairs, self._fast.budget, share.pairs)
        is_spread, world = zero_stage(self) > 0, self.args.world_size
        called = model if is_spread else self.model
        graphs, room = self._fast.graphs, 0
        if graphs is not None:
            graphs.hold_gradients()
            room = self.args.per_device_train_batch_size
        weight = self.pair_weight(share) if share.is_work else 0.0
        recent = []
        count = share.rows if is_spread else len(rows)
        with self._halves.lent() as collect:
            for number in range(count):
                row = self._fast.packed.row(pairs, rows[min(number, len(rows) - 1)], room)
                is_work = number < len(rows)
                if graphs is not None:
                    losses, _ = self._replayed(graphs, row, weight, collect)
                else:
                    losses = self._row(called, row, weight if is_work else 0.0, is_last=number == count - 1)
                    collect()
                if is_work:
                    recent.append((row.pairs, losses))
        if not is_spread:
            sum_gradients(self.model.parameters())
        self.culprits.add(recent)
        return (torch.cat([losses for _, losses in recent]).sum() * (weight * world)).float()  # transformers logs the ranks' mean

    def _row(self, called: Any, row: Row, weight: float, *, is_last: bool) -> Tensor:
        """[k] losses of the row's pairs, float64; the gradient of their sum times ``weight`` has been added.

        A row of weight 0 counts nothing. DDP's wrapper is not ``called``: it would reduce in the backward pass, where a rank
        that runs out of memory leaves the others waiting.
        """
        assert self._fast is not None, "rows are the fast path's"
        # The longest row is tried before the training wraps the model's forward pass in autocast.
        with self.compute_loss_context_manager(), self.accelerator.autocast():
            losses, _ = self._losses(called, row, self._fast.train, self._figures if weight else None)
        if zero_stage(self):
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            mean = (losses.sum() * weight).float() * self.args.world_size  # DeepSpeed takes the mean over the ranks
            self.accelerator.backward(mean, scale_wrt_gas=False)
        elif self.accelerator.scaler is not None:
            self.accelerator.backward(losses.sum() * weight)
        else:
            losses.backward(self._weight_of(weight).expand_as(losses))  # as of the weighted sum, which nobody reads
        return losses.detach()

    def _replayed(self, graphs: RowGraphs, row: Row, weight: float, collect: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """As ``_row`` and then ``collect``, for a row of a fixed shape: its pairs' losses, [k], and log-probabilities, [k, 2]."""
        assert self._fast is not None, "rows are the fast path's"
        self._fast.packed.reserve(row)
        losses, logps, *sums = graphs(row, weight, partial(self._pass, collect))
        if weight:
            self._figures.join(row, sums)
        return losses[: len(row.pairs)], logps[: len(row.pairs)]

    def _pass(self, collect: Callable[[], None], row: Row, weight: Tensor) -> list[Tensor]:
        """All that the device computes of a row: a function of its buffer, of ``weight`` and of the weights, and of nothing else.

        Returns the losses, [K], the log-probabilities, [K, 2], and the sums of the figures. The gradients have been added.
        """
        assert self._fast is not None, "rows are the fast path's"
        figures = self.new_figures()
        try:
            with self.compute_loss_context_manager(), self.accelerator.autocast():
                losses, logps = self._losses(self.model, row, self._fast.train, figures)
            losses.backward(weight.expand_as(losses))
            collect()
        except BaseException:
            self._halves.forget()
            raise
        return [losses.detach(), logps, *figures.sums()]

    def logps_of(self, graphs: RowGraphs, share: Share) -> Tensor:
        """[n, 2]: log-probabilities of the share's pairs, each in a row of its own; the step's gradients have been added."""
        assert self._fast is not None, "rows are the fast path's"
        self.model.train()
        graphs.hold_gradients()
        weight, found = self.pair_weight(share), []
        with self._halves.lent() as collect:
            for place in share.pairs:
                row = self._fast.packed.row(self._fast.train.pairs, (place,), self.args.per_device_train_batch_size)
                found.append(self._replayed(graphs, row, weight, collect)[1])
        return torch.cat(found)

    @contextmanager
    def trying(self, fast: Fast) -> Iterator[None]:
        """The step computes as ``fast`` has it for as long as this lasts; what it adds to the figures is forgotten."""
        before = self._fast, self._halves, self._figures
        self._fast, self._halves = fast, Halves(self.model, None if zero_stage(self) else autocast_type(self.args))
        self._figures = self.new_figures()
        try:
            yield
        finally:
            self._fast, self._halves, self._figures = before
            self.culprits.forget()

    def _weight_of(self, weight: float) -> Tensor:
        """``weight`` on the device, float64: most steps have that of the step before."""
        if self._weight is None or self._weight[0] != weight:
            self._weight = weight, torch.full((), weight, dtype=torch.float64, device=self.accelerator.device)
        return self._weight[1]

    def _shorten(self, pairs: TokenPairs) -> bool:
        """Halves the longest row of ``pairs``; False where each of them has a row to itself already."""
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
        """Computes a row of the longest pairs and forgets it: a shortage of memory shows now and not after hours."""
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
        """As many bytes as the optimizer's state will take, which its first step makes; none where that is not known."""
        name = str(getattr(self.args.optim, "value", self.args.optim))
        own = sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)
        size = 0 if name.startswith("paged") else int(STATES.get(name, 0) * own / 4)  # those of a weight in fp32
        return torch.empty(size, dtype=torch.uint8, device=self.accelerator.device)

    def shortage(self, error: torch.OutOfMemoryError) -> MemoryShortage:
        """The error of the run where no shorter row helps; the next attempt may take smaller micro-batches."""
        can_split = self._micro_at_start > 1 and (self._fast is None or zero_stage(self) > 0)
        advice = "retrying with smaller micro-batches" if can_split else "lower max_seq_length, or see `launcher plan`"
        return MemoryShortage(
            f"out of memory at step {self.state.global_step + 1}: {advice} ({str(error).splitlines()[0]})", can_split=can_split
        )

    def _losses(self, model: Any, row: Row, data: Scored, figures: Figures | None) -> tuple[Tensor, Tensor]:
        """([K] float64: the losses of the row's pairs, which are added to ``figures``; [K, 2]: their log-probabilities).

        A pair that is missing in a row of a fixed shape has 0.
        """
        assert self._fast is not None, "rows are the fast path's"
        row = row.to(self.accelerator.device)
        logps, output = self._fast.packed(model, row)
        if row.room:
            missing = row.places < 0
            reference = data.reference.index_select(0, row.places.clamp(min=0))
            ratios = (logps - reference).masked_fill(missing[:, None], 0.0)
        else:
            ratios = logps - data.reference.index_select(0, row.places)
        losses = pair_losses(self.args, Ratios(*ratios.unbind(1), *row.counts.unbind(1)))
        losses = losses.masked_fill(missing, 0.0) if row.room else losses
        if figures is not None:
            figures.add(row, output, logps.detach(), self.args.beta * ratios.detach(), losses.detach())
        return losses, logps.detach()


def autocast_type(args: Any) -> torch.dtype | None:
    """The 16-bit type of the step's autocast; None without."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
