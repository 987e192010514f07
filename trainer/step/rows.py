"""Packed rows: forward and backward row by row, and the losses and metrics of each row's pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..inputs.tokens.token_pairs import TokenPairs
from ..processes.ranks.sharding import stage as zero_stage
from .batches.packing import Row, rows_of
from .batches.steps import Share
from .compiling.graphs import RowGraphs
from .forward.halves import Halves
from .gradients import sum_gradients
from .loss.culprits import Culprits
from .loss.figures import Figures
from .loss.losses import Ratios, pair_losses, smoothed
from .packed import Fast, Scored
from .plain import PlainTrainer


class RowTrainer(PlainTrainer):
    """A trainer that computes packed rows once ``_fast`` is set."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._fast: Fast | None = None
        self._weight: tuple[float, Tensor] | None = None
        self.culprits = Culprits()
        super().__init__(*args, **kwargs)
        self._halves = Halves(self.model, None)
        self._figures = self.new_figures()
        self.loss_types, self.loss_weights = smoothed(self.loss_types, self.loss_weights, self.label_smoothing)

    def new_figures(self) -> Figures:
        """Sums of the figures of packed rows, still empty."""
        return Figures(self.accelerator.device, self.noise)

    def pair_weight(self, share: Share) -> float:
        """The weight of a pair's loss in the step: ``1 / total``, because the step's loss is the mean over its pairs."""
        return 1 / share.total

    def count_of(self, pairs: TokenPairs) -> int:
        """How many items the mean loss of ``pairs`` averages: the pairs."""
        return len(pairs)

    def mean_loss(self, logps: Tensor, reference: Tensor, pairs: TokenPairs) -> Tensor:
        """The mean loss of ``pairs``. Log-probabilities, also those of the reference, are [n, 2]: (chosen, rejected)."""
        tokens = torch.tensor(pairs.lengths[:, 1:], device=logps.device)
        ratios = logps - reference
        return pair_losses(self.args, Ratios(ratios[:, 0], ratios[:, 1], tokens[:, 0], tokens[:, 1])).mean()

    @contextmanager
    def trying(self, fast: Fast) -> Iterator[None]:
        """A context in which steps compute with ``fast``; metrics that they add are discarded on exit."""
        before = self._fast, self._halves, self._figures
        self._fast, self._halves = fast, Halves(self.model, None if zero_stage(self) else autocast_type(self.args))
        self._figures = self.new_figures()
        try:
            yield
        finally:
            self._fast, self._halves, self._figures = before
            self.culprits.forget()

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

    def _weight_of(self, weight: float) -> Tensor:
        """``weight`` on the device, float64; cached, because most steps have the weight of the step before."""
        if self._weight is None or self._weight[0] != weight:
            self._weight = weight, torch.full((), weight, dtype=torch.float64, device=self.accelerator.device)
        return self._weight[1]


def autocast_type(args: Any) -> torch.dtype | None:
    """The 16-bit type of the step's autocast; None without."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
