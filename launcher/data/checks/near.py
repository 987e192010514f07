"""Finds training pairs that nearly repeat an earlier one, and validation prompts that nearly repeat a training prompt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any, Final

from ..tables.streamed import Streamed
from ..text.pair import Pair

ALIKE: Final = 0.8  # of the words, or pairs of words, that either text has, the share that both have
PLACES: Final = 3
_PERMUTATIONS, _BANDS = 64, 16  # bands of 4: finds 99.98 % of the texts that are ALIKE, 64 % of those that share half
_COMPARED: Final = 20  # candidates of one text
_FEWEST: Final = 4  # parts of a text: of a shorter one a single word decides
_SAMPLED, _LEAST, _OFTEN = 1000, 20, 0.5  # prompts that show what a template puts into all
_WORDS: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


@dataclass(frozen=True)
class Near:
    """``training``: pairs that are almost an earlier training pair and not the same; None: not compared. ``validation``: pairs
    whose prompt is the prompt of a training pair, or almost. The first places are (line, line of the training pair).
    """

    training: int | None
    validation: int
    training_places: tuple[tuple[int, int], ...] = ()
    validation_places: tuple[tuple[int, int], ...] = ()


def near_duplicates(train: Sequence[Pair], validation: Sequence[Pair]) -> Near:
    """Finds them by MinHash and compares the candidates; without the package rensa, and among training pairs that are too large
    for memory, only prompts that differ in case, spaces and punctuation.
    """
    is_able = can_compare() and not isinstance(train, Streamed)
    inside = list(_inside(train)) if is_able else []
    across = list(_across(train, validation, is_able=is_able))
    return Near(len(inside) if is_able else None, len(across), tuple(inside[:PLACES]), tuple(across[:PLACES]))


def can_compare() -> bool:
    """Whether the package that makes MinHashes is installed."""
    from importlib.util import find_spec

    return find_spec("rensa") is not None


def squeezed(text: str) -> str:
    """``text`` without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", text.casefold())


def _inside(train: Sequence[Pair]) -> Iterator[tuple[int, int]]:
    """(line, line of an earlier pair) of the training pairs; a repeated pair is not counted here."""
    once = {(pair.user, pair.chosen, pair.rejected): pair for pair in reversed(train)}
    index = _Index(_words)
    # An earlier pair with the answers exchanged is a contradiction.
    for (user, chosen, rejected), pair in reversed(once.items()):
        text = f"{user}\n{chosen}\n{rejected or ''}"
        if (user, rejected, chosen) in once:
            continue
        line = index.found(text, pair.line)
        if line is not None:
            yield pair.line, line


def _across(train: Sequence[Pair], validation: Sequence[Pair], *, is_able: bool) -> Iterator[tuple[int, int]]:
    """(line of the validation pair, line of the training pair)."""
    if not validation:
        return
    lines: dict[int, int] = {}  # by a hash of the prompt
    for pair in train:
        lines.setdefault(hash(squeezed(pair.user)), pair.line)
    index = None
    if is_able:
        usual = _usual(pair.user for pair in train)
        index = _Index(lambda text: _without(_pairs_of_words(text), usual))
        for text, line in {pair.user: pair.line for pair in reversed(train)}.items():
            index.found(text, line)
    for pair in validation:
        same = lines.get(hash(squeezed(pair.user)))
        found = same if same is not None or index is None else index.found(pair.user, None)
        if found is not None:
            yield pair.line, found


class _Index:
    """Texts by their MinHashes. A text like an earlier one is not kept, so that thousands of them cost no more."""

    def __init__(self, parts: Callable[[str], Sequence[str]]):
        from rensa import RMinHashLSH

        self._parts = parts
        self._index: Any = RMinHashLSH(threshold=ALIKE, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        self._kept: list[tuple[str, int]] = []

    def found(self, text: str, line: int | None) -> int | None:
        """The line of an earlier text that is like ``text``; where there is none and ``line`` is one, ``text`` is kept."""
        from rensa import RMinHash

        parts = self._parts(text)
        if len(parts) < _FEWEST:
            return None
        hashed: Any = RMinHash(num_perm=_PERMUTATIONS, seed=1)
        hashed.update(parts)
        own = set(parts)
        for number in islice(self._index.query(hashed), _COMPARED):
            other, earlier = self._kept[int(number)]
            if _share(own, set(self._parts(other))) >= ALIKE:
                return earlier
        if line is not None:
            self._index.insert(len(self._kept), hashed)
            self._kept.append((text, line))
        return None


def _share(one: set[str], other: set[str]) -> float:
    """Jaccard's index: the number of common parts, divided by the number of different parts of both."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)


def _words(text: str) -> Sequence[str]:
    """The words of a long text, and the characters of one that is written without spaces."""
    words = text.casefold().split()
    return _WORDS.findall(text.casefold()) if len(text) > 15 * len(words) else words


def _pairs_of_words(text: str) -> Sequence[str]:
    """Each word with the next one: of a short text their order counts."""
    words = _WORDS.findall(text.casefold())
    return list(map(" ".join, pairwise(words)))


def _usual(prompts: Iterable[str]) -> frozenset[str]:
    """The pairs of words that half of the first prompts have: what a template puts around each of them."""
    first = [set(_pairs_of_words(prompt)) for prompt in islice(prompts, _SAMPLED)]
    if len(first) < _LEAST:
        return frozenset()
    counts = Counter(chain.from_iterable(first))
    return frozenset(part for part, count in counts.items() if count >= _OFTEN * len(first))


def _without(parts: Sequence[str], usual: frozenset[str]) -> Sequence[str]:
    return [part for part in parts if part not in usual] if usual else parts
