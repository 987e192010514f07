"""Checks across pairs: repeats, contradictions, training pairs among the validation pairs, prompts inside answers.

Keeps an 8-byte hash of each pair instead of its text, which may not fit into memory: of millions, two different ones have
the same hash with a probability below one in a million.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ..findings import Findings
from ..tables.progress import watched
from ..tables.table import Table
from ..text.pair import Pair

_ROWS: Final = 20  # fewer may share an answer, or have long ones by chance
_SOME: Final = 10_000
_MOST: Final = 0.5  # of the pairs
_APART: Final = 16  # characters: "yes" and "no" do not differ in length
_PROMPT: Final = 12  # characters: an answer may well begin with "Hi" or "Yes"
_SENTENCE, _LONG = 16, 40  # characters from which on a sentence, or any prompt, stands in no answer by chance


def check_pairs(tables: Sequence[Table], parts: Sequence[Sequence[Pair]], findings: Findings) -> None:
    """Adds what the rules find in the pairs of the training table and, if there is one, of the validation table."""
    trained: set[int] = set()
    for role, table, part in zip(("training", "validation"), tables, parts, strict=False):
        _check(role, table, part, trained, findings)


def _check(role: str, table: Table, part: Sequence[Pair], trained: set[int], findings: Findings) -> None:
    """``trained``: hashes of the training pairs, which are added."""
    is_training = role == "training"
    lines, contents, opposites = array("q"), array("q"), array("q")
    repeating: set[int] = set()  # lines
    answers = {"chosen": array("q"), "rejected": array("q")}
    longer = {"chosen": array("q"), "rejected": array("q")}  # lines
    for pair in watched(part, f"comparing the pairs of {table.name}", findings.tell):
        question = pair.question
        content = hash((question, pair.chosen, pair.rejected))
        if content in trained:
            findings.of_pair("repeated_pair" if is_training else "leaked_pair", table, pair.line, role)
        elif is_training:
            trained.add(content)
        lines.append(pair.line)
        contents.append(content)
        if is_training:
            for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
                answers[side].append(hash(answer))
        is_preference = pair.rejected is not None and pair.chosen != pair.rejected
        opposites.append(hash((question, pair.rejected, pair.chosen)) if is_preference else content)
        if _repeats_its_prompt(pair):
            repeating.add(pair.line)
        if is_training and pair.rejected is not None:
            far = _longer(pair.chosen, pair.rejected, findings.threshold("longer_chosen"))
            if far is not None:
                longer[far].append(pair.line)
    for side, hashes in answers.items():
        _shared(side, table, lines, hashes, findings)
    if len(lines) >= _ROWS and len(longer["chosen"]) - len(longer["rejected"]) > _MOST * len(lines):
        for line in longer["chosen"]:
            findings.of_pair("longer_chosen", table, line, role)
    there = trained if is_training else set(contents)
    wants = findings.wants("contradiction")
    for line, content, opposite in zip(lines, contents, opposites, strict=True):
        if wants and opposite != content and opposite in there:
            findings.of_pair("contradiction", table, line, role)
        if line in repeating:
            findings.of_pair("prompt_in_answer", table, line, role)


def _shared(side: str, table: Table, lines: Sequence[int], hashes: array[int], findings: Findings) -> None:
    """``hashes``: of the answers of one side, all of None for data without them."""
    if len(hashes) < _ROWS or not findings.wants("shared_answer"):
        return
    # What half of all rows share is the most frequent of some, too, without a count of millions.
    (most, _), *_ = Counter(hashes[:: 1 + len(hashes) // _SOME]).most_common(1)
    if most == hash(None) or hashes.count(most) <= findings.threshold("shared_answer") * len(hashes):
        return
    for line, one in zip(lines, hashes, strict=True):
        if one == most:
            findings.of_answer("shared_answer", table, line, side)


def _longer(chosen: str, rejected: str, times: float) -> str | None:
    """The side whose answer is at least so many times as long, and by more than a few characters."""
    if abs(len(chosen) - len(rejected)) < _APART:
        return None
    ratio = len(chosen) / max(1, len(rejected))
    return "chosen" if ratio >= times else "rejected" if ratio * times <= 1 else None


def _repeats_its_prompt(pair: Pair) -> bool:
    """Whether both answers begin with the prompt, or one has all of a longer one inside."""
    prompt = pair.user.strip()
    if len(prompt) < _PROMPT:
        return False
    answers = [answer for answer in (pair.chosen, pair.rejected) if answer is not None]
    if all(answer.lstrip().startswith(prompt) for answer in answers):
        return True
    is_telling = len(prompt) >= _LONG or (len(prompt) >= _SENTENCE and prompt[-1] in "?.!:;")
    return is_telling and any(prompt in answer for answer in answers)
