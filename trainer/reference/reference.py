"""The reference's log-probabilities of answers: computed once, then read from the cache by every later run.

The store's key is an answer after its prompt, not a pair, and the token ids are the key: they are cut already, so another
``max_seq_length`` misses exactly where it changes ids. See ``identity.reference_key`` for what else is in the key.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from launcher.data.tables.table import place_of
from launcher.errors import HealthError

from ..inputs.tokens.token_pairs import Ids, TokenPairs
from .shards import Shards

FORMAT: Final = 1  # of the store: raise it when a row's key or number means something else
EVERY: Final = 60.0  # seconds between two saves: at most so much work is lost with a killed pass
SHOWN: Final = 20


@dataclass(frozen=True)
class Reference:
    """The reference's log-probabilities of every pair."""

    logps: Tensor  # [n, 2] float64: sums of the log-probabilities of (chosen, rejected)
    hits: int  # pairs that needed no computation: the cache or another row had both answers
    misses: int  # pairs that were computed now


# Takes pairs of at most ``budget`` tokens together (prompt once, chosen, rejected; a longer pair comes alone), and returns their
# [m, 2] sums. Where weights are sharded it must make one forward pass a call: every rank makes the same number of calls.
Score = Callable[[TokenPairs], Tensor]
Gather = Callable[[Any], list[Any]]  # a picklable object of each rank -> those of all ranks in their order (also for one)


def reference_logps(
    pairs: TokenPairs,
    *,
    score: Score,
    key: str,
    cache: Path,
    budget: int,
    source: str,
    rank: int,
    world: int,
    gather: Gather,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] | None = None,
    every: float = EVERY,
) -> Reference:
    """Log-probabilities of ``pairs``, the same bits on all ranks: from the store below ``cache``, else from ``score``.

    ``source`` names the data's file in errors. ``say`` takes one line at the end, and notices of a store that cannot be written;
    ``progress`` takes (pairs that are done, all). Raises HealthError if a number is not finite; it is never stored.
    """
    began = time.monotonic()
    shards = Shards(cache / "reference" / f"v{FORMAT}" / key, say)
    answers = answer_keys(pairs)
    # Ranks meet in ``gather`` and not in the file system: a network volume may show a file late, or be another one on each.
    known = gather(shards.read(answers) if rank == 0 else None)[0]
    missing, taken = _missing(answers, known), 0
    hits = len(pairs) - len(missing)
    if missing:
        tell = partial(_tell, progress, hits, len(pairs))
        share = _share(pairs, missing, budget, rank, world)
        fresh, taken = _compute(pairs, answers, share, score, shards, source, tell, every, is_alone=world == 1)
        computed = {answer: number for part in gather(fresh) for answer, number in part.items()}
        known = gather(_settle(answers, known, computed, shards) if rank == 0 else None)[0]
    if rank == 0:
        seconds = time.monotonic() - began
        others = f", {taken:,} by another run at the same time" if taken else ""
        said = f"{hits:,} of {len(pairs):,} pairs from the cache, {len(missing) - taken:,} computed{others}"
        say(f"reference: {said} ({seconds:.1f} s)")
    return Reference(torch.from_numpy(known.copy()).view(-1, 2), hits, len(missing) - taken)


def _tell(progress: Callable[[int, int], None] | None, hits: int, pairs: int, share: float) -> None:
    """Reports progress: ``share`` of the missing pairs is done."""
    if progress is not None:
        progress(hits + round(share * (pairs - hits)), pairs)


def answer_keys(pairs: TokenPairs) -> list[bytes]:
    """[2n] keys, chosen and rejected of each pair in turn: SHA-256 of the ids of the prompt and of the answer."""
    keys = []
    for begun, *answers in pairs.arrays():
        prompt = hashlib.sha256(_ids(begun))
        for answer in answers:
            digest = prompt.copy()
            digest.update(_ids(answer))
            keys.append(digest.digest())
    return keys


def _ids(ids: Ids) -> bytes:
    """The length, then the ids: without the length, an id could move from the prompt to the answer unseen."""
    return struct.pack("<i", len(ids)) + ids.astype("<i4", copy=False).tobytes()


def _missing(answers: Sequence[bytes], known: np.ndarray) -> list[int]:
    """Indices of the pairs to compute: each has an answer that is neither cached nor in an earlier pair."""
    missing: list[int] = []
    covered: set[bytes] = set()
    for place in np.flatnonzero(np.isnan(known).reshape(-1, 2).any(axis=1)).tolist():
        both = (2 * place, 2 * place + 1)
        if any(math.isnan(known[i]) and answers[i] not in covered for i in both):
            missing.append(place)
            covered.update(answers[i] for i in both)
    return missing


def _share(pairs: TokenPairs, missing: list[int], budget: int, rank: int, world: int) -> list[tuple[list[int], bool]]:
    """This rank's slices of ``missing``, and whether each is work or only repeats another rank's: all make equally many calls.

    Longest pairs come first, so that running out of memory shows at once.
    """
    places = np.sort(np.array(missing))
    sizes = pairs.lengths[places].sum(1)
    order = np.argsort(-sizes, kind="stable")
    sizes = sizes[order]
    total, longest = int(sizes.sum()), int(sizes[0])
    # A slice closed at ``enough`` tokens holds less than enough + longest <= budget, and there are at most rounds * world.
    rounds = math.ceil(total / (world * (budget - longest))) if budget > longest else None
    enough = total / (rounds * world) if rounds else budget
    slices = list(_slices(list(zip(places[order].tolist(), sizes.tolist(), strict=True)), enough, budget))
    work = len(slices)
    slices += slices[-1:] * (-work % world)
    return [(slices[i], i < work) for i in range(rank, len(slices), world)]


def _slices(sizes: list[tuple[int, int]], enough: float, budget: int) -> Iterator[list[int]]:
    current: list[int] = []
    tokens = 0
    for place, size in sizes:
        if current and (tokens >= enough or tokens + size > budget):
            yield current
            current, tokens = [], 0
        current.append(place)
        tokens += size
    yield current


def _compute(
    pairs: TokenPairs,
    answers: Sequence[bytes],
    share: list[tuple[list[int], bool]],
    score: Score,
    shards: Shards,
    source: str,
    tell: Callable[[float], None],
    every: float,
    *,
    is_alone: bool,
) -> tuple[dict[bytes, float], int]:
    """Scores this rank's share; stores it every ``every`` seconds, and when the pass is interrupted.

    ``tell`` takes the share (0 to 1) that is done. ``is_alone``: no other rank must make equally many calls; then what other
    runs have stored meanwhile, as the points of a sweep do that started together, is taken over. Returns the numbers, and how
    many pairs were taken over.
    """
    kept, waiting = _Kept(answers, shards), deque(share)
    try:
        while waiting:
            places, work = waiting.popleft()
            chosen = pairs.take(places)
            numbers = score(chosen).detach().to("cpu", torch.float64)
            assert numbers.shape == (len(places), 2), f"{numbers.shape} numbers of {len(places)} pairs"
            tell(1 - len(waiting) / len(share))
            if not work:
                continue
            kept.add(places, numbers)
            _check(chosen, torch.isfinite(numbers), source)
            if time.monotonic() - kept.saved >= every:
                kept.save()
                waiting = kept.taken_over(waiting) if is_alone else waiting
                kept.saved = time.monotonic()
    except BaseException:
        shards.save(kept.unsaved)
        raise
    return kept.fresh | kept.unsaved, kept.taken


Slices = deque[tuple[list[int], bool]]


@dataclass
class _Kept:
    """The numbers of a pass: ``fresh`` ones are stored, ``unsaved`` ones not yet; ``taken``: pairs that another run computed."""

    answers: Sequence[bytes]
    shards: Shards
    fresh: dict[bytes, float] = field(default_factory=dict)
    unsaved: dict[bytes, float] = field(default_factory=dict)
    taken: int = 0
    saved: float = field(default_factory=time.monotonic)
    is_spread: bool = False

    def add(self, places: list[int], numbers: Tensor) -> None:
        """Adds the finite ones of the ``numbers`` [m, 2] of the pairs at ``places``."""
        for place, row in zip(places, numbers.tolist(), strict=True):
            self.unsaved |= {self.answers[2 * place + i]: row[i] for i in (0, 1) if math.isfinite(row[i])}

    def save(self) -> None:
        if self.shards.save(self.unsaved):
            self.fresh, self.unsaved = self.fresh | self.unsaved, {}

    def taken_over(self, waiting: Slices) -> Slices:
        """The slices that are left of those that wait: what another run has stored meanwhile is taken over."""
        others, waiting, pairs = _taken_over(waiting, self.answers, self.shards)
        self.fresh, self.taken = self.fresh | others, self.taken + pairs
        # Runs that started together are in the same place: each continues in another one.
        waiting.rotate(0 if self.is_spread else _somewhere(len(waiting)))
        self.is_spread = True
        return waiting


def _somewhere(count: int) -> int:
    return random.SystemRandom().randrange(max(1, count))  # the seeded generators are the training's


def _taken_over(waiting: Slices, answers: Sequence[bytes], shards: Shards) -> tuple[dict[bytes, float], Slices, int]:
    """Takes over waiting slices that another run has stored; returns those left, and the number of pairs taken over."""
    keys = [answers[2 * place + i] for places, _ in waiting for place in places for i in (0, 1)]
    stored = {key: number for key, number in zip(keys, shards.read(keys).tolist(), strict=True) if not math.isnan(number)}
    left = deque(
        (places, work)
        for places, work in waiting
        if any(answers[2 * place + i] not in stored for place in places for i in (0, 1))
    )
    return stored, left, sum(len(places) for places, _ in waiting) - sum(len(places) for places, _ in left)


def _check(scored: TokenPairs, finite: Tensor, source: str) -> None:
    bad = [place_of(source, line) for line in scored.lines[~finite.all(dim=1).numpy()].tolist()]
    if not bad:
        return
    names = ", ".join(bad[:SHOWN]) + (f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
    raise HealthError(
        f"{names}: the base model's log-probability is not finite; the weights are damaged, or the precision is too low for them"
    )


def _settle(answers: Sequence[bytes], known: np.ndarray, computed: dict[bytes, float], shards: Shards) -> np.ndarray:
    """``known`` with the computed numbers, which are stored; numbers that another run stored meanwhile take precedence.

    The numbers in use are then those that a resumed run will read.
    """
    wanted = list(computed)
    stored = dict(zip(wanted, shards.read(wanted).tolist(), strict=True))
    rest = {key: computed[key] for key in wanted if math.isnan(stored[key])}
    if shards.save(rest):
        try:
            shards.compact()
        except OSError as error:
            shards.say(f"notice: cannot compact the reference cache {shards.folder}: {(error.strerror or str(error)).lower()}")
    numbers = computed | {key: number for key, number in stored.items() if not math.isnan(number)}
    settled = known.copy()
    for place in np.flatnonzero(np.isnan(known)).tolist():
        settled[place] = numbers[answers[place]]
    return settled
