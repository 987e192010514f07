"""Which pairs a step holds: a function of seed, epoch and step only, independent of the number of ranks."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ...inputs.tokens.token_pairs import Numbers, TokenPairs
from .packing import first_fit, packed_lengths, segments_of


@dataclass(frozen=True)
class Share:
    """One rank's part of a step. A pair's loss has weight ``1 / total``."""

    pairs: tuple[int, ...]  # indices of pairs in the data
    total: int  # pairs of the step over all ranks
    tokens: int  # tokens of the step over all ranks, counted like the plain path: a prompt with each of its answers
    is_work: bool  # otherwise it repeats another rank's pair with weight 0, because every rank must join the reduction
    rows: int  # rows of the rank with the most, if weights or gradients are sharded and all ranks must join each pass; else 0
    predicted: int = 0  # tokens of the chosen answers of the step over all ranks


class Steps(Sampler[Share]):
    """The shares of ``rank`` in the steps of one epoch.

    The order is that of accelerate's seedable sampler (``torch.randperm`` seeded with seed + epoch), so also plain TRL's. A
    step's shares are balanced by tokens: the longest remaining pair goes to the rank with the fewest tokens.
    """

    def __init__(
        self,
        pairs: TokenPairs,
        *,
        batch: int,
        seed: int | None,
        rank: int,
        world: int,
        budget: int | None,
        kept: int | None = None,
    ):
        """``batch``: pairs per step over all ranks. ``budget``: maximum tokens of a row, if all ranks' rows must be counted.
        ``seed``: None for the order of the data. ``kept``: pairs per epoch, the first of its order; None for all.
        """
        self._lengths = packed_lengths(pairs)
        self._tokens, self._predicted = pairs.padded_tokens, segments_of(pairs.lengths)[:, 1]
        self._batch, self._seed, self._rank, self._world = batch, seed, rank, world
        self._budget, self.epoch = budget, 0
        self._kept = len(pairs) if kept is None else kept

    def __len__(self) -> int:
        return -(-self._kept // self._batch)

    def __iter__(self) -> Iterator[Share]:
        order = self._order()[: self._kept]
        for begin in range(0, len(order), self._batch):
            yield self._share(order[begin : begin + self._batch])

    def _order(self) -> Numbers:
        places = len(self._lengths)
        if self._seed is None:
            return np.arange(places)
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        return torch.randperm(places, generator=generator).numpy()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _share(self, places: Numbers) -> Share:
        lengths = self._lengths[places]
        order = np.lexsort((places, -lengths))
        shares: list[list[int]] = [[] for _ in range(self._world)]
        lightest = [(0, rank) for rank in range(self._world)]  # a heap of (tokens, rank)
        for place, length in zip(places[order].tolist(), lengths[order].tolist(), strict=True):
            load, rank = lightest[0]
            shares[rank].append(place)
            heapq.heapreplace(lightest, (load + length, rank))
        mine, tokens = shares[self._rank], int(self._tokens[places].sum())
        predicted = int(self._predicted[places].sum())
        return Share(tuple(mine or shares[0][:1]), len(places), tokens, bool(mine), self._most_rows(shares), predicted)

    def _most_rows(self, shares: list[list[int]]) -> int:
        if self._budget is None:
            return 0
        return max(len(first_fit(self._lengths[share], self._budget)) if share else 0 for share in shares)


class StepLoader(DataLoader[Share]):
    """The steps in the form that transformers expects: with a length, an epoch, and a sampler that can skip."""

    def __init__(self, pairs: int, steps: Steps):
        super().__init__(_Itself(pairs), batch_sampler=_Batches(steps), collate_fn=_only)

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


class _Itself(torch.utils.data.Dataset[Share]):
    """Returns the share itself, because the pairs are already in memory."""

    def __init__(self, pairs: int):
        self._pairs = pairs

    def __len__(self) -> int:
        return self._pairs

    def __getitem__(self, share: Share) -> Share:
        return share


class _Batches(Sampler[list[Share]]):
    """Batches of one share each."""

    def __init__(self, steps: Steps):
        self._steps = steps
        self.batch_size, self.drop_last = 1, False

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Share]]:
        return ([share] for share in self._steps)

    def set_epoch(self, epoch: int) -> None:
        self._steps.set_epoch(epoch)


def _only(shares: list[Share]) -> dict[str, Share]:
    return {"share": shares[0]}
