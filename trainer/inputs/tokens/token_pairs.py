"""Pairs as token ids in flat arrays: 4 bytes an id, where a list of Python's numbers takes ten times as much."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

Ids = NDArray[np.int32]
Numbers = NDArray[np.int64]

PARTS: Final = ("prompt", "chosen", "rejected")
CHUNK: Final = 4096  # pairs that are copied at a time: more would need as much memory again


@dataclass(frozen=True)
class TokenPair:
    """One pair as ids; ``prompt + chosen`` and ``prompt + rejected`` are what the model sees. Without a rejected answer, as for
    SFT, ``rejected`` is empty and only the first is seen.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    line: int


class TokenPairs(Sequence[TokenPair]):
    """n pairs of a file. A single ``TokenPair`` is made where it is asked for, and some of the pairs share the ids of all."""

    def __init__(self, ids: tuple[Ids, Ids, Ids], begins: Numbers, lengths: Numbers, lines: Numbers):
        """``ids``: of all prompts, of all chosen answers, of all rejected ones; part j of pair i is
        ``ids[j][begins[i, j] : begins[i, j] + lengths[i, j]]``. ``begins`` and ``lengths``: [n, 3], ``lines``: [n].
        """
        self.ids, self.begins, self.lengths, self.lines = ids, begins, lengths, lines

    @classmethod
    def joined(cls, ids: tuple[Ids, Ids, Ids], lengths: Numbers, lines: ArrayLike) -> TokenPairs:
        """Of parts that lie one after another without a gap."""
        return cls(ids, np.cumsum(lengths, axis=0) - lengths, lengths, np.asarray(lines, np.int64))

    @classmethod
    def of(cls, pairs: Iterable[TokenPair]) -> TokenPairs:
        grown = Grown()
        lines = []
        for pair in pairs:
            grown.add(*(np.array(ids, np.int32) for ids in (pair.prompt, pair.chosen, pair.rejected)))
            lines.append(pair.line)
        return grown.pairs(lines)

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, place: int) -> TokenPair: ...
    @overload
    def __getitem__(self, place: slice) -> TokenPairs: ...
    def __getitem__(self, place: int | slice) -> TokenPair | TokenPairs:
        if isinstance(place, slice):
            return TokenPairs(self.ids, self.begins[place], self.lengths[place], self.lines[place])
        line, ends = int(self.lines[place]), self.begins[place] + self.lengths[place]
        parts = (ids[begin:end].tolist() for ids, begin, end in zip(self.ids, self.begins[place], ends, strict=True))
        return TokenPair(*parts, line)

    def take(self, places: Sequence[int] | Numbers) -> TokenPairs:
        """The pairs at ``places``, in their order."""
        some = np.asarray(places, np.int64)
        return TokenPairs(self.ids, self.begins[some], self.lengths[some], self.lines[some])

    def __eq__(self, other: object) -> bool:
        """Whether all ids and lines are the same, wherever they lie."""
        if not isinstance(other, TokenPairs):
            return NotImplemented
        if not (np.array_equal(self.lengths, other.lengths) and np.array_equal(self.lines, other.lines)):
            return False
        return all(np.array_equal(self.part(j), other.part(j)) for j in range(3))

    __hash__ = None

    def arrays(self) -> Iterator[tuple[Ids, Ids, Ids]]:
        """(prompt, chosen, rejected) of every pair, none of them a copy."""
        for begins, ends in zip(self.begins.tolist(), (self.begins + self.lengths).tolist(), strict=True):
            yield tuple(ids[begin:end] for ids, begin, end in zip(self.ids, begins, ends, strict=True))

    @property
    def nbytes(self) -> int:
        return sum(numbers.nbytes for numbers in (*self.ids, self.begins, self.lengths, self.lines))

    @property
    def longest(self) -> Numbers:
        """[n]: tokens of the longer sequence of each pair, a prompt with an answer."""
        return self.lengths[:, 0] + self.lengths[:, 1:].max(axis=1, initial=0)

    @property
    def answers(self) -> int:
        """The number of answers of each pair: 2, or 1 without rejected answers."""
        return 2 if self.lengths[:, 2].any() else 1

    @property
    def padded_tokens(self) -> Numbers:
        """[n]: tokens of each pair's sequences, its prompt with each of its answers."""
        return self.lengths[:, 1:].sum(axis=1) + self.answers * self.lengths[:, 0]

    def holding(self, is_one: Any) -> NDArray[np.bool_]:
        """[n]: whether any id of a pair is one for which ``is_one``, a function of arrays, is true."""
        found = np.zeros(len(self), bool)
        for j, ids in enumerate(self.ids):
            places = np.flatnonzero(is_one(ids))
            begins = self.begins[:, j]
            found |= np.searchsorted(places, begins + self.lengths[:, j]) > np.searchsorted(places, begins)
        return found

    def cut(self, lengths: Numbers) -> TokenPairs:
        """The first ``lengths``, [n, 3], ids of each part; without those that are cut off in memory."""
        if np.array_equal(lengths, self.lengths):
            return self
        kept = TokenPairs(self.ids, self.begins, lengths, self.lines)
        return TokenPairs.joined((kept.part(0), kept.part(1), kept.part(2)), lengths, self.lines)

    def part(self, j: int) -> Ids:
        """All ids of part ``j``, one pair after another; a copy only where they lie otherwise."""
        begins, lengths = self.begins[:, j], self.lengths[:, j]
        total = int(lengths.sum())
        if np.array_equal(begins[1:], (begins + lengths)[:-1]):
            first = int(begins[0]) if len(self) else 0
            return self.ids[j][first : first + total]
        found, at = np.empty(total, np.int32), 0
        for start in range(0, len(self), CHUNK):
            some = spread(begins[start : start + CHUNK], lengths[start : start + CHUNK])
            found[at : at + len(some)] = self.ids[j][some]
            at += len(some)
        return found

    def column(self, j: int) -> pa.LargeListArray:
        """Part ``j`` for Arrow: [n] lists, not copied where ``part`` does not copy."""
        ends = np.concatenate([[0], np.cumsum(self.lengths[:, j])])
        return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(self.part(j)))


class Grown:
    """Pairs that are added one by one, in arrays that grow in place."""

    def __init__(self) -> None:
        self._ids = (array("i"), array("i"), array("i"))
        self._lengths = array("q")

    def add(self, *parts: Ids) -> None:
        """One pair: prompt, chosen, rejected."""
        for ids, part in zip(self._ids, parts, strict=True):
            ids.frombytes(part.tobytes())
            self._lengths.append(len(part))

    def pairs(self, lines: ArrayLike) -> TokenPairs:
        """All that was added; ``lines``: [n]."""
        prompt, chosen, rejected = (np.frombuffer(ids, np.int32) if ids else np.empty(0, np.int32) for ids in self._ids)
        return TokenPairs.joined((prompt, chosen, rejected), np.array(self._lengths, np.int64).reshape(-1, 3), lines)


def spread(begins: Numbers, lengths: Numbers) -> Numbers:
    """``begins[0], begins[0] + 1, …`` for ``lengths[0]`` numbers, then likewise from ``begins[1]``, and on."""
    return np.repeat(begins - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))
