"""Packs pairs into rows: a pair is its prompt once, then the chosen answer, then the rejected one. Padding is at the row's end.

An SFT pair has no rejected answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...inputs.tokens.token_pairs import Numbers, TokenPairs, spread
from .blocks import BLOCK, tables, up


class Span(NamedTuple):
    """A pair's position in its row: ``begin``, then the number of tokens shared by both answers, of the chosen and of the
    rejected answer.
    """

    begin: int
    shared: int
    chosen: int
    rejected: int


@dataclass(frozen=True)
class Row:
    """One sequence of T tokens with k whole pairs, and the n places (token indices) whose outputs predict an answer's token.

    The prompt's last token predicts the first token of both answers. So it is repeated before each answer, at the same
    position, and each copy is hidden from the other answer. The last token of an answer predicts nothing and is left out.

    T and n may be padded, so that few shapes are compiled: padding has id 0 and position 0, is its own segment 3k, and predicts
    id 0 for answer 2k. No pair sees it, and it adds nothing to the sums.

    A row of a fixed shape has room for K ≥ k pairs: missing ones have no tokens and place -1. What a pass computes of such a
    row depends on its content only through the buffer.

    All tensors share one buffer, because each copy to a GPU is a separate call.
    """

    buffer: Tensor  # int64: all tensors below, concatenated
    pairs: tuple[int, ...]  # [k] indices of the pairs in the packed data
    spans: tuple[Span, ...]  # [k]
    edge: int = 0  # blocks on a side of FlexAttention's tables, whose int32 numbers end the buffer
    window: int = 0  # of a second set of tables, for layers that see so many positions; 0: there is none
    padding: int = 0  # of the T tokens
    spare: int = 0  # of the n places
    room: int = 0  # K in a row of a fixed shape; 0: exactly k

    def to(self, device: torch.device) -> Row:
        """The row on ``device``, by one asynchronous copy."""
        if device.type == self.buffer.device.type:
            return self
        return self.at(self.buffer.pin_memory().to(device, non_blocking=True))

    @cached_property
    def length(self) -> int:
        """T, including padding."""
        return sum(span.shared + span.chosen + span.rejected for span in self.spans) + self.padding

    @cached_property
    def predicted(self) -> int:
        """n, including padding."""
        return (len(self.buffer) - 4 * self.length - 3 * self.slots - self._table_numbers) // 4

    @property
    def slots(self) -> int:
        """K: pairs that the buffer has room for; k if the shape is not fixed."""
        return self.room or len(self.spans)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, n, K, blocks per side). Rows of the same shape have buffers of the same layout."""
        return self.length, self.predicted, self.slots, self.edge

    def at(self, buffer: Tensor) -> Row:
        """The row with its numbers in ``buffer``, a copy of its own buffer."""
        return replace(self, buffer=buffer)

    @cached_property
    def _parts(self) -> tuple[Tensor, ...]:
        pairs = self.slots
        return self.buffer.split([*[self.length] * 4, *[self.predicted] * 4, 2 * pairs, pairs, self._table_numbers])

    @property
    def _table_numbers(self) -> int:
        return _numbers(self.edge) * (2 if self.window else 1)

    @property
    def counted(self) -> tuple[int, int, int]:
        """(pairs, predicted tokens of chosen answers, of rejected answers), without padding."""
        return len(self.spans), sum(span.chosen for span in self.spans), sum(span.rejected for span in self.spans)

    @property
    def input_ids(self) -> Tensor:
        """[T]."""
        return self._parts[0]

    @property
    def position_ids(self) -> Tensor:
        """[T]; the rejected answer's positions restart after the prompt."""
        return self._parts[1]

    @property
    def segment(self) -> Tensor:
        """[T]: for the row's pair i, 3i in the shared prompt, 3i + 1 in the chosen answer, 3i + 2 in the rejected one."""
        return self._parts[2]

    @property
    def parent(self) -> Tensor:
        """[T]: the prompt's segment, which a token sees in addition to its own."""
        return self._parts[3]

    @property
    def where(self) -> Tensor:
        """[n]: token indices in the row whose outputs are used."""
        return self._parts[4]

    @property
    def targets(self) -> Tensor:
        """[n]: the token ids predicted there."""
        return self._parts[5]

    @property
    def answer(self) -> Tensor:
        """[n]: for the row's pair i, 2i in the chosen answer, 2i + 1 in the rejected one; 2K in padding."""
        return self._parts[6]

    @property
    def side(self) -> Tensor:
        """[n]: 0 in a chosen answer, 1 in a rejected one, 2 in padding."""
        return self._parts[7]

    @property
    def counts(self) -> Tensor:
        """[K, 2]: predicted tokens of (chosen, rejected)."""
        return self._parts[8].view(-1, 2)

    @property
    def places(self) -> Tensor:
        """[K]: ``pairs`` on the row's device; -1 for missing pairs."""
        return self._parts[9]

    def blocks(self, *, windowed: bool = False) -> tuple[Tensor, ...]:
        """The tables of ``blocks.tables`` of a row that was packed with them; ``windowed``: those of its ``window``."""
        assert self.edge, "it was packed for FlexAttention"
        assert self.window or not windowed, "it was packed for layers with a window"
        size = [self.edge, self.edge**2] * 4
        tables = self._parts[10].view(torch.int32).split(sum(size))[windowed].split(size)
        return tuple(table.view(1, 1, *[self.edge] * (1 + n % 2)) for n, table in enumerate(tables))


def _numbers(edge: int) -> int:
    """int64 values that the tables of ``edge`` blocks take."""
    return 2 * edge * (1 + edge)


def pack(pairs: TokenPairs, budget: int, places: Sequence[int] | None = None, *, block_sparse: bool = False) -> list[Row]:
    """Rows of at most ``budget`` tokens, longest pairs first (first-fit decreasing). A longer pair gets its own row.

    ``places``: indices of the pairs to pack, all by default. ``block_sparse``: with FlexAttention's tables. Deterministic for
    the same pairs in the same order.
    """
    return [pack_row(pairs, row, block_sparse=block_sparse) for row in rows_of(pairs, budget, places)]


def rows_of(pairs: TokenPairs, budget: int, places: Sequence[int] | None = None) -> list[tuple[int, ...]]:
    """The pair indices in each row of ``pack``."""
    if places is None:
        return [tuple(row) for row in first_fit(packed_lengths(pairs), budget)]
    return [tuple(places[i] for i in row) for row in first_fit(packed_lengths(pairs.take(places)), budget)]


def first_fit(sizes: Numbers, budget: int) -> list[list[int]]:
    """Indices of ``sizes``, [n], in groups with a sum of at most ``budget``; first-fit decreasing in O(n log n)."""
    lengths = sizes.tolist()
    rows: list[list[int]] = []
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    room = [budget] * (2 * leaves)  # a max-heap: children of i are 2i and 2i + 1, the leaves are the rows, still empty
    for place in np.argsort(-sizes, kind="stable").tolist():
        length = min(lengths[place], budget)
        node = 1
        while node < leaves:
            node = 2 * node if room[2 * node] >= length else 2 * node + 1
        if node - leaves == len(rows):
            rows.append([])
        rows[node - leaves].append(place)
        room[node] -= lengths[place]  # a longer pair leaves no room, not even for a pair without tokens
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return rows


def packed_lengths(pairs: TokenPairs) -> Numbers:
    """[n]: tokens of each pair in a row."""
    return segments_of(pairs.lengths).sum(axis=1)


def segments_of(lengths: Numbers) -> Numbers:
    """[n, 3]: tokens of (shared prompt, chosen, rejected); the answers begin with a copy of the prompt's last token.

    ``lengths``, [n, 3]: ids of prompt, chosen and rejected.
    """
    begins = np.minimum(lengths[:, :1], 1)
    return np.maximum(lengths + np.concatenate([-begins, begins - 1, begins - 1], axis=1), 0)


def pack_row(
    pairs: TokenPairs,
    places: tuple[int, ...],
    *,
    block_sparse: bool = False,
    window: int = 0,
    padded: Callable[[int], int] | None = None,
    room: int = 0,
) -> Row:
    """The row of the pairs at ``places``, in this order.

    ``block_sparse``: with FlexAttention's tables. ``window``: with a second set for layers that see this many positions.
    ``padded``: row tokens -> padded length; n is then padded to a multiple of ``BLOCK``; None: no padding. ``room``: number of
    pairs K of a fixed shape; n is then padded to an eighth of T.
    """
    some, count = pairs.take(places), len(places)
    lengths = segments_of(some.lengths)  # [k, 3]
    tokens, counts = int(lengths.sum()), lengths[:, 1:].ravel()
    predicted = int(counts.sum())
    padding = 0 if padded is None else padded(tokens) - tokens
    spare = 0 if padded is None else up(predicted, up((tokens + padding) // 8 or 1) if room else BLOCK) - predicted
    room = room and max(room, 1 << (count - 1).bit_length())
    slots = room or count
    segments = np.concatenate([lengths, [[padding, 0, 0]]]) if padding else lengths
    length, places_end = tokens + padding, 4 * (tokens + padding + predicted + spare)
    edge = up(length) // BLOCK if block_sparse else 0
    window = window if edge else 0
    buffer = np.empty(places_end + 3 * slots + _numbers(edge) * (2 if window else 1), np.int64)
    begins = _sequence(buffer[: 4 * length].reshape(4, length), segments)
    where, targets, answer, side = found = buffer[4 * length : places_end].reshape(4, predicted + spare)
    where[:predicted] = spread(begins[:count, 1:].ravel(), counts)
    answer[:predicted] = np.repeat(np.arange(2 * count), counts)
    side[:predicted] = np.repeat(np.arange(2 * count) % 2, counts)
    if spare:
        found[:, predicted:] = np.array([[length - 1], [0], [2 * slots], [2]])
    buffer[tokens:length] = buffer[length + tokens : 2 * length] = 0  # ids and positions of padding
    _fill(some, buffer[:tokens], targets[:predicted])
    of_pairs = buffer[places_end : places_end + 3 * slots]
    of_pairs[: 2 * count], of_pairs[2 * count : 2 * slots] = counts, 0
    of_pairs[2 * slots : 2 * slots + count], of_pairs[2 * slots + count :] = places, -1
    if edge:
        sets = [tables(segments, one, buffer[length : 2 * length]) for one in ([0, window] if window else [0])]
        buffer[places_end + 3 * slots :] = np.concatenate([one.ravel() for one in sets]).view(np.int64)
    spans = tuple(Span(begin, *three) for begin, three in zip(begins[:, 0].tolist(), lengths.tolist(), strict=False))
    return Row(torch.from_numpy(buffer), places, spans, edge, window, padding, spare, room)


def _sequence(parts: Numbers, lengths: Numbers) -> Numbers:
    """[m, 3]: the starts of the segments ``lengths``, [m, 3]. Writes all of [4, T] except the ids."""
    _, positions, segment, parent = parts
    sizes = lengths.ravel()
    begins = np.cumsum(sizes) - sizes
    firsts = lengths[:, [0]] * [0, 1, 1]  # each segment's first position
    own = np.arange(len(sizes))
    segment[:] = np.repeat(own, sizes)
    np.add(np.arange(len(segment)), np.repeat(firsts.ravel() - begins, sizes), out=positions)
    parent[:] = np.repeat(own - own % 3, sizes)
    return begins.reshape(-1, 3)


def _fill(pairs: TokenPairs, ids: Numbers, targets: Numbers) -> None:
    """Writes a row's ids and the predicted ids."""
    prompts, chosen, rejected = pairs.ids
    given, predicted = [], []
    for (a, b, c), (p, q, r) in zip(pairs.begins.tolist(), (pairs.begins + pairs.lengths).tolist(), strict=True):
        first = 0 if a < p else 1  # without a prompt, an answer's first token is not predicted
        given += prompts[a:p], chosen[b : max(b, q - 1)]
        predicted.append(chosen[b + first : q])
        if c < r:
            given += prompts[max(a, p - 1) : p], rejected[c : r - 1]
            predicted.append(rejected[c + first : r])
    ids[:], targets[:] = np.concatenate(given), np.concatenate(predicted)  # widened once, not piece by piece
