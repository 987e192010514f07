"""Pairs -> rows without padding: a pair is its prompt once, then the chosen answer, then the rejected one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ..inputs.tokens import TokenPair

_SHARED: Final = 0  # the branch of tokens that both answers see; 1 is the chosen answer's, 2 the rejected one's


@dataclass(frozen=True)
class Row:
    """One sequence of T tokens that holds k whole pairs, and the n places whose outputs predict an answer's token.

    The prompt's last token predicts the first token of both answers, so it stands once before each of them, at one position
    and unseen by the other; the last token of an answer predicts nothing and is left out.
    """

    input_ids: Tensor  # [T] int64
    position_ids: Tensor  # [T] int64; the rejected answer's begin again after the prompt
    pair: Tensor  # [T] int64, 0..k-1: whose token it is
    branch: Tensor  # [T] int64: shared, chosen or rejected
    where: Tensor  # [n] int64: places in the row
    targets: Tensor  # [n] int64: the ids predicted there
    answer: Tensor  # [n] int64: 2i for the chosen answer of the row's pair i, 2i + 1 for the rejected one
    pairs: tuple[int, ...]  # [k] places of the pairs in what was packed

    def to(self, device: torch.device) -> Row:
        names = ("input_ids", "position_ids", "pair", "branch", "where", "targets", "answer")
        return Row(*(getattr(self, name).to(device, non_blocking=True) for name in names), self.pairs)


def pack(pairs: Sequence[TokenPair], budget: int) -> list[Row]:
    """Rows of at most ``budget`` tokens, longest pairs first (first fit decreasing); a longer pair has a row of its own.

    The same pairs in the same order give the same rows.
    """
    return [_row(pairs, places) for places in first_fit([packed_length(pair) for pair in pairs], budget)]


def first_fit(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """The places of ``lengths`` in rows of at most ``budget`` together."""
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        length = lengths[place]
        fit = next((row for row, left in enumerate(room) if left >= length), None)
        if fit is None:
            rows.append([place])
            room.append(budget - length)
        else:
            rows[fit].append(place)
            room[fit] -= length
    return rows


def packed_length(pair: TokenPair) -> int:
    """Tokens that ``pair`` takes in a row."""
    begins = 2 if pair.prompt else 0
    return max(0, len(pair.prompt) - 1) + begins + len(pair.chosen) + len(pair.rejected) - 2


def mask(row: Row) -> Tensor:
    """[1, 1, T, T] bool for scaled_dot_product_attention: which token (third axis) sees which (fourth)."""
    order = torch.arange(len(row.input_ids), device=row.input_ids.device)
    same = row.pair[:, None] == row.pair[None, :]
    shared = (row.branch[None, :] == _SHARED) | (row.branch[:, None] == row.branch[None, :])
    return (same & shared & (order[:, None] >= order[None, :]))[None, None]


def block_mask(row: Row) -> object:
    """The same as a FlexAttention BlockMask, which keeps only the blocks in which anything is seen."""
    from torch.nn.attention.flex_attention import create_block_mask

    pair, branch, length = row.pair, row.branch, len(row.input_ids)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        shared = (branch[key] == _SHARED) | (branch[query] == branch[key])
        return (pair[query] == pair[key]) & shared & (query >= key)

    return create_block_mask(sees, B=1, H=None, Q_LEN=length, KV_LEN=length, device=row.input_ids.device)


def _row(pairs: Sequence[TokenPair], places: Sequence[int]) -> Row:
    ids: list[int] = []
    positions: list[int] = []
    whose: list[int] = []
    branches: list[int] = []
    where: list[int] = []
    targets: list[int] = []
    answers: list[int] = []
    for number, place in enumerate(places):
        pair = pairs[place]
        shared, last = pair.prompt[:-1], pair.prompt[-1:]
        ids += shared
        positions += range(len(shared))
        branches += [_SHARED] * len(shared)
        for side, answer in enumerate((pair.chosen, pair.rejected)):
            tokens = last + answer
            where += range(len(ids), len(ids) + len(tokens) - 1)
            targets += tokens[1:]
            answers += [2 * number + side] * (len(tokens) - 1)
            ids += tokens[:-1]
            positions += range(len(shared), len(shared) + len(tokens) - 1)
            branches += [1 + side] * (len(tokens) - 1)
        whose += [number] * (len(ids) - len(whose))
    return Row(
        *(torch.tensor(x, dtype=torch.int64) for x in (ids, positions, whose, branches, where, targets, answers)), tuple(places)
    )
