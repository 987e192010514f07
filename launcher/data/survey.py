"""Survey: what a person should know of the pairs before training on them, without a tokenizer. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

from .pair import Pair
from .pairs import Pairs

PARTS: Final = ("prompt", "chosen", "rejected")
_APART: Final = 0.15  # difference of two shares from which on a format is worth a line
_LEAST: Final = 20  # pairs: shares of fewer say little


@dataclass(frozen=True)
class Lengths:
    """Of one part of all pairs, in ``unit``s: characters or tokens. ``cut``: how many lose their end; None: not known."""

    unit: str
    median: int
    high: int  # 95 % are at most as long
    longest: int
    cut: int | None = None


@dataclass(frozen=True)
class Bias:
    """``share`` of the pairs whose chosen answer is longer (of those of two lengths); ``median`` of chosen less rejected."""

    unit: str
    share: float
    median: int


@dataclass(frozen=True)
class Format:
    """The shares of the chosen and of the rejected answers that have a form, such as a list."""

    name: str
    chosen: float
    rejected: float


@dataclass(frozen=True)
class Survey:
    """``near``: validation pairs whose prompt is a training prompt, apart from case, spaces and punctuation.

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

    def json(self) -> dict[str, Any]:
        return asdict(self)


def survey(pairs: Pairs) -> Survey:
    """Counts the training pairs and compares them with the validation pairs; lengths are in characters."""
    train = pairs.train
    contents = Counter((pair.user, pair.chosen, pair.rejected) for pair in train)
    prompts = {squeezed(pair.user) for pair in train}
    rejected = [pair.rejected for pair in train if pair.rejected is not None]
    texts = [[pair.user for pair in train], [pair.chosen for pair in train], *([rejected] if rejected else [])]
    parts = {name: list(map(len, of)) for name, of in zip(PARTS, texts, strict=False)}
    return Survey(
        len(train),
        len(pairs.validation),
        {name: lengths_of(of, "characters") for name, of in parts.items()},
        bias_of(parts["chosen"], parts["rejected"], "characters") if rejected else None,
        len(train) - len(contents),
        sum(count for one, count in contents.items() if (one[0], one[2], one[1]) in contents),
        sum((pair.user, pair.chosen, pair.rejected) in contents for pair in pairs.validation),
        sum(squeezed(pair.user) in prompts for pair in pairs.validation),
        formats_of(train),
    )


def lengths_of(numbers: Sequence[int], unit: str, cut: int | None = None) -> Lengths:
    """Median, 95 % quantile (nearest rank) and maximum of ``numbers``, which must not be empty."""
    ordered = sorted(numbers)
    return Lengths(unit, _quantile(ordered, 0.5), _quantile(ordered, 0.95), ordered[-1], cut)


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def bias_of(chosen: Sequence[int], rejected: Sequence[int], unit: str) -> Bias:
    """How the chosen answers differ from the rejected ones in length."""
    apart = [one - other for one, other in zip(chosen, rejected, strict=True)]
    unequal = [difference for difference in apart if difference]
    share = sum(difference > 0 for difference in unequal) / len(unequal) if unequal else 0.5
    return Bias(unit, share, _quantile(sorted(apart), 0.5))


def squeezed(text: str) -> str:
    """``text`` without what hardly distinguishes two prompts: case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", text.casefold())


def formats_of(pairs: Sequence[Pair]) -> tuple[Format, ...]:
    """The forms that are much more frequent in the chosen answers than in the rejected ones, or the other way round."""
    if len(pairs) < _LEAST or pairs[0].rejected is None:
        return ()
    found = []
    for name, has in _FORMS.items():
        chosen, rejected = (sum(has(getattr(pair, part)) for pair in pairs) / len(pairs) for part in PARTS[1:])
        if abs(chosen - rejected) >= _APART:
            found.append(Format(name, chosen, rejected))
    scripts = [Counter(script(getattr(pair, part)) for pair in pairs) for part in PARTS[1:]]
    for name in sorted({*scripts[0], *scripts[1]} - {""}):
        chosen, rejected = (counts[name] / len(pairs) for counts in scripts)
        if abs(chosen - rejected) >= _APART:
            found.append(Format(f"{name} script", chosen, rejected))
    return tuple(found)


def script(text: str) -> str:
    """The script of most of the first letters of ``text``, as Unicode names it: Latin, Cyrillic, Cjk …; empty without letters."""
    counts = Counter(_script(character) for character in text[:200] if character.isalpha())
    return counts.most_common(1)[0][0] if counts else ""


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    return unicodedata.name(character, "OTHER").split(" ")[0].split("-")[0].capitalize()


def _finds(pattern: str, flags: int = 0) -> Callable[[str], bool]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.search(text) is not None


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
