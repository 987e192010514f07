"""Rules that need no training step: they look at the facts of the data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from .facts import Facts

_LEAST_TOKENS: Final = 512  # a shorter answer is no giant, whatever the others are
# Whole words: "bad" of "Bad answer", "bad-answer" and "bad_answer", not of "badge".
_WORD: Final = r"(?<![^\W\d_])({})(?![^\W\d_])"
_GOOD: Final = re.compile(_WORD.format("chosen|preferred|accepted|winner|better|best|good|positive"), re.IGNORECASE)
_BAD: Final = re.compile(_WORD.format("rejected|dispreferred|loser|worse|worst|bad|negative"), re.IGNORECASE)


def truncated(facts: Facts, threshold: float) -> str | None:
    answers = facts.answers
    if answers is None or answers.cut <= threshold * answers.count:
        return None
    at = f" ({facts.max_seq_length})" if facts.max_seq_length else ""
    share = 100 * answers.cut / answers.count
    some = f"{answers.cut:,} of {answers.count:,} training answers ({share:.0f} %)"
    return f"{some} are cut at max_seq_length{at}, so the model does not learn where they end"


def giant_answer(facts: Facts, threshold: float) -> str | None:
    answers = facts.answers
    if answers is None or answers.longest < _LEAST_TOKENS or answers.longest <= threshold * answers.median:
        return None
    times = answers.longest / max(1.0, answers.median)
    return (
        f"the answer of {answers.longest:,} tokens in row {answers.longest_row} of the training data is {times:.0f} times as "
        f"long as the median ({answers.median:.0f})"
    )


def duplicates(facts: Facts, threshold: float) -> str | None:
    answers = facts.answers
    pairs = 0 if answers is None else answers.count // answers.of_pair
    if answers is None or answers.repeated <= threshold * pairs:
        return None
    share = 100 * answers.repeated / pairs
    return (
        f"{answers.repeated:,} of {pairs:,} training pairs ({share:.0f} %) repeat an earlier one: they count more than the others"
    )


def swapped_names(facts: Facts, threshold: float) -> str | None:
    """Whether the names of the two columns contradict their mapping."""
    chosen, rejected = facts.chosen or "", facts.rejected or ""
    if not (_BAD.search(chosen) or _GOOD.search(rejected)) or _GOOD.search(chosen) or _BAD.search(rejected):
        return None
    return f"the chosen answers come from column {chosen!r} and the rejected ones from {rejected!r}: they look swapped"


BY_DATA: Final[Mapping[str, Callable[[Facts, float], str | None]]] = {
    "swapped_columns": swapped_names,
    "truncated": truncated,
    "giant_answer": giant_answer,
    "duplicates": duplicates,
}
