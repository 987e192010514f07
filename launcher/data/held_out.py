"""Holds out pairs of a table for validation (``validation_split``), by whole prompts.

The choice depends only on prompts: every rank, resume and repetition of a run holds out the same pairs, and rows that are
added later move few of the others.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import TypeVar

from ..errors import DataError, Mistake
from .checks.near import squeezed
from .tables.streamed import Streamed
from .text.pair import Pair

T = TypeVar("T")


def held_out(pairs: Sequence[Pair], share: float, name: str) -> bytes:
    """For each pair 1 if it is held out, else 0: ``share`` of all pairs, rounded, by the prompts with the least hashes.

    Neither side is empty, and no prompt is on both; those that differ in case, spaces or punctuation are one. Raises DataError
    where all pairs have the same prompt: a held-out pair would only show what was learned by heart. ``name``: of their table.
    """
    prompts = array("Q", (_hash(pair) for pair in pairs))
    sizes = Counter(prompts)
    if len(sizes) < 2:
        what = "all pairs have the same prompt, and validation_split holds out whole prompts"
        raise DataError(Mistake(name, what, hint="keep pairs with other prompts in a file of their own: validation_filename"))
    room = min(max(1, round(share * len(prompts))), len(prompts) - 1)
    held = set[int]()
    for prompt in sorted(sizes):
        if sizes[prompt] <= room:
            held.add(prompt)
            room -= sizes[prompt]
    if not held:  # every prompt has more pairs
        held.add(min(sizes, key=lambda prompt: (sizes[prompt], prompt)))
    return bytes(prompt in held for prompt in prompts)


def chosen(items: Sequence[T], flags: bytes) -> Sequence[T]:
    """The items whose flag is 1, in their order; made again for each pass where ``items`` are."""
    if isinstance(items, Streamed):
        return Streamed(sum(flags), lambda: compress(items, flags))
    return tuple(compress(items, flags))


def others(flags: bytes) -> bytes:
    """The flags of the items that the given ones leave."""
    return bytes(1 - flag for flag in flags)


def _hash(pair: Pair) -> int:
    text = squeezed(pair.question).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
