"""Rated rows: a table with one rated answer a row becomes one with a row for each prompt, its best and its worst answer.

As KTO's data and spreadsheets of ratings have them. An answer that several rows rate counts with its mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ...errors import Mistake
from ...experiment.sections.data_rules import DATA_RULES
from ..findings import SHOWN, places
from ..tables.progress import Rows, nothing, watched
from ..tables.table import Row, Table
from ..text.faults import is_blank, normal
from ..text.messages import Spelling, Unreadable
from .known_names import CONVERSATIONS
from .verdicts import Unusable, Verdict

MERGED: Final = "write it into each row: of merged cells only the first has the text"
_MANY: Final = 20  # mistakes of one table


@dataclass
class _Answer:
    """An answer to a prompt, in the first ``row`` that has it; ``total`` of the ratings that ``count`` rows give it."""

    row: Row
    total: float
    count: int = 1

    @property
    def mean(self) -> float:
        return self.total / self.count


@dataclass
class _Group:
    """The rated answers to one prompt, by their text; ``line``: of its first row."""

    line: int
    answers: dict[str, _Answer] = field(default_factory=dict)

    def pair(self, *, lowest: bool) -> tuple[Row, Row] | None:
        """The rows of the best and of the worst answer, of several the first; None if none is better than another.

        ``lowest``: the lowest one is the best.
        """
        means = {answer.mean: answer.row for answer in reversed(self.answers.values())}
        if len(means) < 2:
            return None
        ends = means[max(means)], means[min(means)]
        return ends[::-1] if lowest else ends


def prompts_of(table: Table, inputs: Iterable[str], answer: str) -> tuple[str, ...]:
    """The columns of the prompt that ``table`` has beside its column ``answer``; () if the answers are all that holds it."""
    named = tuple(name for name in inputs if name in table.columns and name != answer)
    return named or tuple(name for name in CONVERSATIONS if name in table.columns and name != answer)[:1]


def prompt_key(row: Row, inputs: Sequence[str], answer: str, spelling: Spelling) -> str:
    """What all rows of one prompt have alike: its ``inputs``, without them the messages before the last of the ``answer``.

    Raises Unreadable for an answer that is no conversation then.
    """
    if inputs:
        return json.dumps([" ".join(normal(row.cells[name]).split()) for name in inputs])
    return json.dumps(spelling.read(answer)[:-1], sort_keys=True, default=str)


def best_and_worst(table: Table, verdict: Verdict, mistakes: list[Mistake], tell: Rows = nothing) -> Table:
    """A row for each prompt with answers of different ratings; what is wrong is added to ``mistakes``.

    ``verdict`` names one column of answers and one of ratings or ranks.
    """
    groups, wrong, unrated = dict[str, _Group](), list[Mistake](), 0
    inputs = prompts_of(table, verdict.inputs, verdict.answers[0])
    for row in watched(table.rows, f"comparing the answers of {table.name}", tell):
        found = _read(table, row, verdict, inputs, is_first=not groups)
        if isinstance(found, Mistake):
            wrong.append(found)
            continue
        key, rating = found
        group = groups.setdefault(key, _Group(row.line))
        if rating is None:
            unrated += 1
            continue
        text = normal(row.cells[verdict.answers[0]]).strip()
        if text in group.answers:
            answer = group.answers[text]
            answer.total, answer.count = answer.total + rating, answer.count + 1
        else:
            group.answers[text] = _Answer(row, rating)
    pairs = {key: group.pair(lowest=verdict.kind == "ranks") for key, group in groups.items()}
    kept = [pair for pair in pairs.values() if pair is not None]
    if not kept and not wrong:
        wrong.append(_no_pair(table, verdict, list(groups.values())))
    mistakes += wrong[:_MANY]
    without = [group for key, group in groups.items() if pairs[key] is None]
    letter = (table.letters or {}).get(verdict.answers[0])
    made = (verdict.better, verdict.worse)
    return replace(
        table,
        columns=(*table.columns, *made),
        rows=tuple(_row(*pair, verdict) for pair in kept),
        ignored=(*table.ignored, _sentence(table, verdict, list(groups.values()), without, unrated)),
        letters=None if table.letters is None else {**table.letters, **(dict.fromkeys(made, letter) if letter else {})},
        made=(*table.made, *made),
        left_out=len(table.rows) - len(kept),
        elsewhere={verdict.worse: {better.line: worse.line for better, worse in kept}},
    )


def _read(
    table: Table, row: Row, verdict: Verdict, inputs: Sequence[str], *, is_first: bool
) -> tuple[str, float | None] | Mistake:
    """(prompt, rating) of ``row``."""
    [column], [by] = verdict.answers, verdict.by
    rule = None
    if all(is_blank(cell) for cell in row.cells.values()):
        rule = DATA_RULES["empty_row"]
    elif all(row.cells[name].strip().casefold() == name.strip().casefold() for name in (*inputs, column, by)):
        rule = DATA_RULES["repeated_header"]
    if rule is not None:
        return Mistake(table.place(row.line), rule.one, hint=rule.hint)
    try:
        rating = verdict.number(by, row.cells[by])
    except Unusable as wrong:
        return wrong.mistake(table.place(row.line, by))
    has_no_prompt = bool(inputs) and all(is_blank(row.cells[name]) for name in inputs)
    if has_no_prompt or (rating is not None and is_blank(row.cells[column])):
        empty = inputs[0] if has_no_prompt else column
        hint = MERGED if has_no_prompt and table.letters is not None and not is_first else None
        return Mistake(table.place(row.line, empty), f"{DATA_RULES['empty_cell'].one} in column {empty!r}", hint=hint)
    try:
        return prompt_key(row, inputs, row.cells[column], verdict.spelling), rating
    except Unreadable as why:
        return Mistake(f"{table.place(row.line, column)}, {column}{why.inside}", why.what, why.expected, why.found, why.hint)


def _row(better: Row, worse: Row, verdict: Verdict) -> Row:
    answers = {name: row.cells[verdict.answers[0]] for name, row in ((verdict.better, better), (verdict.worse, worse))}
    return replace(better, cells={**better.cells, **answers})


def _no_pair(table: Table, verdict: Verdict, groups: Sequence[_Group]) -> Mistake:
    ties = sum(len(group.answers) > 1 for group in groups)
    one = len(groups) - ties
    found = ", ".join(_reasons(one, ties)) + f", of {_of(len(groups), 'prompt')}"
    hint = (
        "DPO compares two answers to one prompt: add rows with another answer to the same prompts, "
        f"or keep the rows with good answers and learn these alone (method: sft, chosen: {verdict.answers[0]})"
    )
    return Mistake(table.name, f"no prompt has a better and a worse answer ({verdict.text})", None, found, hint)


def _reasons(one: int, ties: int) -> list[str]:
    found = [f"{one} with one rated answer" if one == 1 else f"{one} with one rated answer each"] * bool(one)
    return found + [f"{ties} whose answers are rated alike"] * bool(ties)


def _sentence(table: Table, verdict: Verdict, groups: Sequence[_Group], without: Sequence[_Group], unrated: int) -> str:
    """How many pairs the rows give, which prompts give none, and what is left out."""
    kept = _of(len(groups) - len(without), "pair")
    parts = [f"{kept} from {_of(len(table.rows), 'row')}, each the best and the worst answer to a prompt"]
    if without:
        ties = sum(len(group.answers) > 1 for group in without)
        where = places(table.name, [table.place(group.line) for group in without[:SHOWN]], len(without))
        have = "has" if len(without) == 1 else "have"
        why = ", ".join(_reasons(len(without) - ties, ties))
        parts.append(f"{len(without)} of {_of(len(groups), 'prompt')} {have} no pair: {why} ({where})")
    repeated = sum(answer.count > 1 for group in groups for answer in group.answers.values())
    parts += [f"{_of(repeated, 'answer')} with several ratings: the mean counts"] * bool(repeated)
    parts += [f"{_of(unrated, 'row')} without a rating left out"] * bool(unrated)
    return f"{table.name}: {verdict.text}: {'; '.join(parts)}"


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
