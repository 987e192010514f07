"""A survey of the pairs before training, without a tokenizer. Pure."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Final

from .checks.near import near_duplicates
from .pairs import Pairs
from .text.languages import can_tell, languages
from .text.pair import Pair

PARTS: Final = ("prompt", "chosen", "rejected")
_APART: Final = 0.15  # difference of two shares from which on a format is worth a line
_LEAST: Final = 20  # pairs: shares of fewer say little
_MOST: Final = 20_000  # pairs, evenly spread, whose answers are looked at for their forms
_TOLD: Final = 400  # pairs, evenly spread, whose languages are told
_BINS: Final = 30  # of a histogram


@dataclass(frozen=True)
class Bins:
    """A histogram: ``counts[i]`` numbers are from ``begin + i * width`` on and below the next bin; the first and the last one
    also hold what is outside, down to ``low`` and up to ``high``.
    """

    begin: int
    width: int
    counts: tuple[int, ...]
    low: int
    high: int


@dataclass(frozen=True)
class Lengths:
    """Of one part of all pairs, in ``unit``s: characters or tokens. ``cut``: how many lose their end; None: not known."""

    unit: str
    median: int
    high: int  # 95 % are at most as long
    longest: int
    cut: int | None = None
    bins: Bins | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Bias:
    """``share`` of the pairs whose chosen answer is longer (of those of two lengths); ``median`` of chosen less rejected."""

    unit: str
    share: float
    median: int
    bins: Bins | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Format:
    """The shares of the chosen and of the rejected answers that have a form, such as a list."""

    name: str
    chosen: float
    rejected: float

    @property
    def is_apart(self) -> bool:
        return abs(self.chosen - self.rejected) >= _APART


@dataclass(frozen=True)
class Survey:
    """``near``: validation pairs whose prompt is almost a training prompt; ``near_training``: training pairs that are almost an
    earlier one, None if they are not compared; ``near_places``: the first ones of each. ``formats``: languages among them,
    where ``has_languages``.

    Without rejected answers (method: sft) there are no lengths of them, no bias and no formats.
    """

    training: int
    validation: int
    lengths: Mapping[str, Lengths]
    bias: Bias | None
    repeated: int
    contradicting: int
    leaked: int
    near: int
    formats: tuple[Format, ...]
    near_training: int | None = None
    near_places: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    has_languages: bool = False

    def json(self) -> dict[str, Any]:
        return asdict(self)


def survey(pairs: Pairs) -> Survey:
    """Counts the training pairs and compares them with the validation pairs; lengths are in characters."""
    train = pairs.train
    parts = {name: array("q") for name in PARTS}
    contents, opposites = array("q"), array("q")  # hashes: the texts themselves may be more than fit into memory
    for pair in train:
        for name, text in zip(PARTS, (pair.user, pair.chosen, pair.rejected), strict=True):
            if text is not None:
                parts[name].append(len(text))
        contents.append(hash((pair.question, pair.chosen, pair.rejected)))
        opposites.append(hash((pair.question, pair.rejected, pair.chosen)))
    there, has_rejected = frozenset(contents), bool(parts["rejected"])
    near = near_duplicates(train, pairs.validation)
    return Survey(
        len(train),
        len(pairs.validation),
        {name: lengths_of(of, "characters") for name, of in parts.items() if of},
        bias_of(parts["chosen"], parts["rejected"], "characters") if has_rejected else None,
        len(train) - len(there),
        sum(opposite in there for opposite in opposites),
        sum(hash((pair.question, pair.chosen, pair.rejected)) in there for pair in pairs.validation),
        near.validation,
        (*formats_of(train), *languages_of(train)),
        near.training,
        {"training": near.training_places, "validation": near.validation_places},
        can_tell(),
    )


def lengths_of(numbers: Sequence[int], unit: str, cut: int | None = None) -> Lengths:
    """Median, 95 % quantile (nearest rank) and maximum of ``numbers``, which must not be empty."""
    ordered = sorted(numbers)
    return Lengths(unit, _quantile(ordered, 0.5), _quantile(ordered, 0.95), ordered[-1], cut, bins_of(ordered))


def bins_of(ordered: Sequence[int]) -> Bins:
    """The histogram of sorted numbers, in steps of 1, 2 or 5 times a power of ten, with 0 at the edge of a bin; 1 % at each side
    may be outside of it, which keeps a single long text from making one bar of all others.
    """
    low, high = ordered[0], ordered[-1]
    first, last = (0, _quantile(ordered, 0.99)) if low >= 0 else (_quantile(ordered, 0.01), _quantile(ordered, 0.99))
    first, last = min(first, 0), max(last, 0)
    width = next(one for one in _WIDTHS if (last - first) // one < _BINS)
    begin = first // width * width
    counts = [0] * ((last - begin) // width + 1)
    for number in ordered:
        counts[min(max(0, (number - begin) // width), len(counts) - 1)] += 1
    return Bins(begin, width, tuple(counts), low, high)


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def bias_of(chosen: Sequence[int], rejected: Sequence[int], unit: str) -> Bias:
    """How chosen and rejected answers differ in length."""
    apart = [one - other for one, other in zip(chosen, rejected, strict=True)]
    unequal = [difference for difference in apart if difference]
    share = sum(difference > 0 for difference in unequal) / len(unequal) if unequal else 0.5
    apart.sort()
    return Bias(unit, share, _quantile(apart, 0.5), bins_of(apart))


def _spread(pairs: Sequence[Pair], most: int) -> Sequence[Pair]:
    """At most ``most`` pairs, evenly spread over the table."""
    return pairs[:: max(1, -(-len(pairs) // most))]


def languages_of(pairs: Sequence[Pair]) -> tuple[Format, ...]:
    """Languages that are much more frequent on one side."""
    if len(pairs) < _LEAST or pairs[0].rejected is None or not can_tell():
        return ()
    pairs = _spread(pairs, _TOLD)
    chosen, rejected = languages(pair.chosen for pair in pairs), languages(pair.rejected or "" for pair in pairs)
    shares = [Format(f"language {name}", chosen[name] / len(pairs), rejected[name] / len(pairs)) for name in {*chosen, *rejected}]
    return tuple(sorted((one for one in shares if one.name != "language " and one.is_apart), key=lambda one: one.name))


def formats_of(pairs: Sequence[Pair]) -> tuple[Format, ...]:
    """Formats that are much more frequent in chosen than in rejected answers, or the reverse."""
    if len(pairs) < _LEAST or pairs[0].rejected is None:
        return ()
    pairs = _spread(pairs, _MOST)
    found = []
    for name, has in _FORMS.items():
        chosen, rejected = (sum(has(getattr(pair, part)) for pair in pairs) / len(pairs) for part in PARTS[1:])
        found.append(Format(name, chosen, rejected))
    scripts = [Counter(script(getattr(pair, part)) for pair in pairs) for part in PARTS[1:]]
    for name in sorted({*scripts[0], *scripts[1]} - {""}):
        chosen, rejected = (counts[name] / len(pairs) for counts in scripts)
        found.append(Format(f"{name} script", chosen, rejected))
    return tuple(one for one in found if one.is_apart)


def script(text: str) -> str:
    """The script of most of the first letters of ``text``, as Unicode names it: Latin, Cyrillic, Cjk …; empty without letters."""
    text = text[:200]
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else ""
    counts = Counter(_script(character) for character in text if character.isalpha())
    return counts.most_common(1)[0][0] if counts else ""


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    return unicodedata.name(character, "OTHER").split(" ")[0].split("-")[0].capitalize()


def _finds(pattern: str, flags: int = 0) -> Callable[[str], bool]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.search(text) is not None


_WIDTHS: Final = tuple(digit * 10**power for power in range(12) for digit in (1, 2, 5))
_FORMS: Final[Mapping[str, Callable[[str], bool]]] = {
    "lists": _finds(r"^\s*(?:[-*•]|\d+[.)]) ", re.MULTILINE),
    "headings": _finds(r"^#{1,6} ", re.MULTILINE),
    "bold text": _finds(r"\*\*[^*\n]+\*\*"),
    "code blocks": lambda text: "```" in text,
    "JSON": lambda text: text.lstrip()[:1] in ("{", "[") and text.rstrip()[-1:] in ("}", "]"),
    "several lines": lambda text: "\n" in text.strip(),
    "a full stop at the end": lambda text: text.rstrip()[-1:] in (".", "!", "?", "。", "！", "？"),
    "a capital at the beginning": lambda text: text.lstrip()[:1].isupper(),
    "an apology or refusal": _finds(r"\A\W*(?:i'?m sorry|sorry|i apologi[sz]e|i can'?t|i cannot|as an ai)\b", re.IGNORECASE),
}
