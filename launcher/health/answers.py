"""Rules over sample answers: what a person sees at once who reads the answers of the trained model beside those of the base."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .facts import Facts

_TIMES: Final = 4  # in a row that a text stands at an answer's end before it is a loop
_SHARE: Final = 0.5  # of the answer that the loop must be
_LOOP: Final = 16  # characters of a loop at least: "no, no, no, no" may be an answer
_PERIOD: Final = 200  # characters of what a loop repeats, at most
_FEW: Final = 3  # answers: fewer may all be longer by chance
_UNENDED: Final = re.compile(r"\W+\Z")
_SHOWN: Final = 24  # characters of what is repeated


@dataclass(frozen=True)
class Answered:
    """The greedy answer to a sample prompt. ``tokens``: with its end; ``is_cut``: it did not end within the most tokens."""

    text: str
    tokens: int
    is_cut: bool


def degenerate_answers(base: Sequence[Answered], trained: Sequence[Answered], facts: Facts, threshold: float) -> str | None:
    """Whether more than a share of the ``trained`` answers are empty, end in a loop or never end, and fewer of the base's are.

    An answer that reaches the most tokens is told where the training's answers are far shorter: else it may just be long.
    """
    faulty, before = _faulty(trained, facts), _faulty(base, facts)
    found, share = sum(map(len, faulty.values())), sum(map(len, before.values()))
    if found <= threshold * len(trained) or found <= share:
        return None
    said = [f"{len(ones)} {what}" for what, ones in _told(faulty)]
    return f"{found} of {len(trained)} sample answers are degenerate (of the base model's {share}): {', '.join(said)}"


def longer_answers(base: Sequence[Answered], trained: Sequence[Answered], facts: Facts, threshold: float) -> str | None:
    """Whether every answer is longer than the base model's, and all together far longer than those and the training's."""
    taught = facts.answers
    if taught is None or len(trained) < _FEW:
        return None
    if any(one.tokens <= other.tokens for one, other in zip(trained, base, strict=True)):
        return None
    before, now = (statistics.median(one.tokens for one in ones) for ones in (base, trained))
    if now < threshold * max(before, taught.median):
        return None
    least = "at least " if any(one.is_cut for one in trained) else ""
    return (
        f"all {len(trained)} sample answers are longer than the base model's: {least}{now:.0f} tokens (median) against "
        f"{before:.0f}; those of the training data have {taught.median:.0f}"
    )


def loop(text: str) -> str | None:
    """What ``text`` repeats from some place on to its end, four times or more and for half of its length; None for other text."""
    body = _UNENDED.sub("", text) or text.strip()
    least = max(_LOOP, int(_SHARE * len(body)))
    for period in range(1, min(_PERIOD, len(body) // _TIMES) + 1):
        at = len(body) - 1
        while at >= period and body[at] == body[at - period]:
            at -= 1
        same = len(body) - 1 - at  # characters that equal those one period before them
        if same + period >= max(least, _TIMES * period):
            return body[-period:]
    return None


def _faulty(answers: Sequence[Answered], facts: Facts) -> Mapping[str, Sequence[str]]:
    """What is wrong, and of each such answer the text that it repeats, or nothing."""
    found: dict[str, list[str]] = {"loop": [], "empty": [], "unended": []}
    for one in answers:
        repeated = loop(one.text)
        if not one.text.strip():
            found["empty"].append("")
        elif repeated is not None:
            found["loop"].append(repeated)
        elif one.is_cut and facts.answers is not None and 2 * facts.answers.median <= one.tokens:
            found["unended"].append("")
    return found


def _told(faulty: Mapping[str, Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    shown = next(iter(faulty["loop"]), "")
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
    words = {
        "loop": ("repeats", "repeat", f" one text to the end ({shown!r})"),
        "empty": ("is", "are", " empty"),
        "unended": ("does", "do", " not end"),
    }
    return [(words[name][len(ones) > 1] + words[name][2], ones) for name, ones in faulty.items() if ones]


BY_ANSWERS: Final[Mapping[str, Callable[[Sequence[Answered], Sequence[Answered], Facts, float], str | None]]] = {
    "degenerate_answers": degenerate_answers,
    "longer_answers": longer_answers,
}
