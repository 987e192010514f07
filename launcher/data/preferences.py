"""What is wrong between pairs: repeats, contradictions, training pairs among the validation pairs; and prompts inside answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .findings import Findings
from .pair import Pair
from .table import Table

_PROMPT: Final = 12  # characters: an answer may well begin with "Hi" or "Yes"

Content = tuple[str, str, str | None]  # user, chosen, rejected


def check_pairs(tables: Sequence[Table], parts: Sequence[Sequence[Pair]], findings: Findings) -> None:
    """Adds what the rules find in the pairs of the training table and, if there is one, of the validation table."""
    trained: set[Content] = set()
    for role, table, part in zip(("training", "validation"), tables, parts, strict=False):
        _repeats(role, table, part, trained, findings)
        opposite = _contradicted(part) if findings.wants("contradiction") else frozenset()
        for pair in part:
            if (pair.user, pair.chosen, pair.rejected) in opposite:
                findings.of_pair("contradiction", table, pair.line, role)
            if _repeats_its_prompt(pair):
                findings.of_pair("prompt_in_answer", table, pair.line, role)


def _repeats(role: str, table: Table, part: Sequence[Pair], trained: set[Content], findings: Findings) -> None:
    is_training = role == "training"
    for pair in part:
        content = (pair.user, pair.chosen, pair.rejected)
        if content in trained:
            findings.of_pair("repeated_pair" if is_training else "leaked_pair", table, pair.line, role)
        elif is_training:
            trained.add(content)


def _contradicted(part: Sequence[Pair]) -> frozenset[Content]:
    """The pairs of which there is another with the answers exchanged."""
    there = {(pair.user, pair.chosen, pair.rejected) for pair in part}
    return frozenset(one for one in there if one[2] is not None and (one[0], one[2], one[1]) in there and one[1] != one[2])


def _repeats_its_prompt(pair: Pair) -> bool:
    prompt = pair.user.strip()
    if len(prompt) < _PROMPT or not pair.chosen.lstrip().startswith(prompt):
        return False
    return pair.rejected is None or pair.rejected.lstrip().startswith(prompt)
