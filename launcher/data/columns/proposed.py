"""Proposed: which columns of a table are prompt and answers, by their names and cells, as the mapping that reads them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ...experiment.text.flow import flow
from ..tables.table import Row, Table
from ..text.faults import is_missing
from .known_names import (
    ANSWERS,
    CHOSEN,
    CONVERSATIONS,
    PARTS,
    PROMPTS,
    RANKS,
    RATINGS,
    REJECTED,
    SYSTEMS,
    TOOLS,
    WINNERS,
    families,
    has_word,
    is_named,
    tokens,
)
from .seen import Seen, ends_with_answer, is_number, is_whole
from .verdicts import Sides

UNKNOWN: Final = "COLUMN"  # in place of a column
_LOOKED_AT: Final = 2000  # rows
_SENTENCE: Final = 30  # characters of an answer, from which on a column of another name may hold some
_KINDS: Final = 8  # values of a verdict at most
_NO_PAIR: Final = "which columns are the better and the worse answers"


@dataclass(frozen=True)
class Proposal:
    """``mapping``: for dpo_column_mapping_config, with ``UNKNOWN`` for a column that is not known; ``roles``: what was taken for
    what, in words. ``missing``: why it is not whole. ``is_sft``: there is one answer to a prompt.
    """

    mapping: Mapping[str, Any]
    roles: Mapping[str, str]
    missing: str | None = None
    is_sft: bool = False

    @property
    def text(self) -> str:
        """The setting on one line."""
        return f"dpo_column_mapping_config: {flow(dict(self.mapping))}"


def proposed(table: Table) -> Proposal:
    """What ``table`` is taken for: better and worse answers, compared ones, or one answer to each prompt."""
    rows = list(islice(table.rows, _LOOKED_AT))
    columns = [Seen.of(name, rows) for name in table.columns]
    found = _named(columns) or _listed(columns) or _compared(columns, rows) or _single(columns)
    taken = [] if found is None else found.columns
    rest = [column for column in columns if column.name not in taken]
    prompt = _prompt(rest, begins=found is not None and found.begins(columns))
    rest = [column for column in rest if column.name != prompt]
    system = next((column.name for column in rest if column.is_text and is_named(column.name, SYSTEMS)), None)
    return _proposal(columns, found, prompt, system)


@dataclass(frozen=True)
class _Answers:
    """``mapping``: of the answers; ``columns``: those that it reads; ``role``: in words. ``missing``: what is not known of it."""

    mapping: Mapping[str, Any]
    columns: tuple[str, ...]
    roles: Mapping[str, str]
    missing: str | None = None
    is_sft: bool = False

    def begins(self, columns: Sequence[Seen]) -> bool:
        """Whether the answers are whole conversations, which begin with the prompt."""
        read = [column for column in columns if column.name in self.columns]
        talks = [column for column in read if column.is_messages]
        return len(talks) >= min(2, len(read)) and all(is_whole(column.first) for column in talks)


def _named(columns: Sequence[Seen]) -> _Answers | None:
    """A column of chosen and one of rejected answers."""
    texts = [column.name for column in columns if column.is_text]
    chosen = _first(texts, ("chosen",)) or _first(texts, CHOSEN)
    rejected = _first(texts, ("rejected",)) or _first(texts, REJECTED)
    if chosen is None or rejected is None:
        return None
    mapping = {"chosen": chosen, "rejected": rejected}
    return _Answers(mapping, (chosen, rejected), mapping)


def _listed(columns: Sequence[Seen]) -> _Answers | None:
    """Lists of answers and of their ratings, or of objects with both."""
    lists = [column for column in columns if column.items]
    for column in lists:
        if all(isinstance(item, dict) for item in column.items):
            texts, numbers = _keys(column.items)
            text = _first(texts, ANSWERS)
            rating = _first(numbers, RATINGS) or _first(numbers, RANKS)
            if text is not None and rating is not None:
                kind = "ratings" if _first([rating], RATINGS) else "ranks"
                names = (f"{column.name}.{text}", f"{column.name}.{rating}")
                mapping = {"answers": names[0], kind: names[1]}
                return _Answers(mapping, (column.name,), {"answers": names[0], kind: names[1]})
    answers = next((one for one in lists if all(isinstance(item, str) and not is_number(item) for item in one.items)), None)
    numbers_of = [one for one in lists if one is not answers and all(is_number(str(item)) for item in one.items)]
    if answers is None or not numbers_of:
        return None
    ratings = next((one for one in numbers_of if not has_word(one.name, RANKS)), numbers_of[0])
    kind = "ranks" if has_word(ratings.name, RANKS) else "ratings"
    mapping = {"answers": answers.name, kind: ratings.name}
    return _Answers(mapping, (answers.name, ratings.name), mapping)


def _compared(columns: Sequence[Seen], rows: Sequence[Row]) -> _Answers | None:
    """Columns of answers beside a verdict, ratings or ranks."""
    by_name = {column.name: column for column in columns}
    texts = families([one.name for one in columns if one.is_text])
    likely = [one for one in texts if _are_answers(one, by_name) or _judge(columns, list(one.values()), rows) is not None]
    if not likely:
        return None
    family = max(likely, key=lambda one: (all(has_word(name, ANSWERS) for name in one.values()), _length(one, by_name)))
    answers = list(family.values())
    numbers = [one for one in families([one.name for one in columns if one.is_number]) if list(one) == list(family)]
    winner = _judge(columns, answers, rows)
    if winner is not None:
        return _Answers({"answers": answers, "winner": winner}, (*answers, winner), {"answers": _and(answers), "winner": winner})
    for kind, words in (("ratings", RATINGS), ("ranks", RANKS)):
        by = next((list(one.values()) for one in numbers if all(has_word(name, words) for name in one.values())), None)
        if by is not None:
            roles = {"answers": _and(answers), kind: _and(by)}
            return _Answers({"answers": answers, kind: by}, (*answers, *by), roles)
    unread = next((one for one in columns if one.name not in answers and is_named(one.name, WINNERS)), None)
    if unread is not None and len(answers) == 2:
        values = list(dict.fromkeys(cell.strip() for cell in unread.cells))[:_KINDS]
        mapping = {"answers": answers, "winner": unread.name, "winner_values": dict.fromkeys(values, UNKNOWN)}
        missing = f"which answer is meant by {', '.join(values)} in column {unread.name!r} ({', '.join(answers)} or tie)"
        return _Answers(mapping, (*answers, unread.name), {"answers": _and(answers)}, missing)
    mapping = {"answers": answers, "winner" if len(answers) == 2 else "ratings": UNKNOWN}
    return _Answers(mapping, tuple(answers), {"answers": _and(answers)}, "which column says which answer is better")


def _judge(columns: Sequence[Seen], answers: Sequence[str], rows: Sequence[Row]) -> str | None:
    """The column whose cells all name one of two ``answers``, or are one's text."""
    if len(answers) != 2:
        return None
    columns, sides = [column for column in columns if column.name not in answers], Sides(answers)
    named = [column for column in columns if is_named(column.name, WINNERS)]
    for column in named:
        if column.cells and (_all_named(column, sides) or _all_texts(column.name, answers, rows)):
            return column.name
    others = [column for column in columns if column not in named and not column.is_number]
    return next((one.name for one in others if len(set(one.cells)) <= _KINDS and one.cells and _all_named(one, sides)), None)


def _all_named(column: Seen, sides: Sides) -> bool:
    found = {sides.of(cell) for cell in set(column.cells)}
    return None not in found and any(side is not None and side >= 0 for side in found)


def _all_texts(name: str, answers: Sequence[str], rows: Sequence[Row]) -> bool:
    cells = [(row.cells[name].strip(), [row.cells[one].strip() for one in answers]) for row in rows]
    return all(cell in texts for cell, texts in cells if not is_missing(cell))


def _single(columns: Sequence[Seen]) -> _Answers | None:
    """One answer to each prompt, where nothing rates it."""
    talk = next((column for column in columns if column.is_messages and ends_with_answer(column.first)), None)
    if talk is not None:
        inputs = {} if talk.name in CONVERSATIONS else {"chosen": talk.name}
        return _Answers(inputs, (talk.name,), {"conversations": talk.name}, is_sft=True)
    rated = any(column.is_number and has_word(column.name, (*RATINGS, "label", "labels")) for column in columns)
    texts = [column.name for column in columns if column.is_text]
    answer = _first(texts, CHOSEN) or _first([name for name in texts if name not in PROMPTS], ANSWERS)
    if answer is not None and (rated or _first([column.name for column in columns], WINNERS)):
        why = f"{_NO_PAIR}: there is one answer to each prompt, in {answer!r}, and pairs need two"
        return _Answers({"chosen": UNKNOWN, "rejected": UNKNOWN}, (answer,), {}, why)
    if answer is None:
        return None
    return _Answers({"chosen": answer}, (answer,), {"answer": answer}, is_sft=True)


def _prompt(columns: Sequence[Seen], *, begins: bool) -> str | None:
    """The column of the prompts, None if the answers are conversations that begin with them."""
    texts = [column for column in columns if column.is_text]
    for wanted in PROMPTS:
        found = next((column for column in texts if is_named(column.name, (wanted,))), None)
        if found is not None and not (found.is_messages and ends_with_answer(found.first)):
            return found.name
    if begins:
        return None
    others = [column.name for column in texts if len(set(column.cells)) > _KINDS or column.length > _SENTENCE]
    return others[0] if len(others) == 1 else None


def _proposal(columns: Sequence[Seen], found: _Answers | None, prompt: str | None, system: str | None) -> Proposal:
    lacks_prompt = prompt is None and not (found is not None and found.begins(columns))
    taken = {prompt, system, *(() if found is None else found.columns), TOOLS}
    rest = [column for column in columns if column.name not in taken]
    parts = _parts(columns, prompt, rest)
    inputs = {"input_columns": _inputs(prompt, parts)} if prompt is not None or lacks_prompt else {}
    answers = {"chosen": UNKNOWN, "rejected": UNKNOWN} if found is None else found.mapping
    mapping = {**inputs, **({} if system is None else {"system": system}), **answers}
    unknown = ["which column is the prompt"] * lacks_prompt
    why = _NO_PAIR if found is None else found.missing
    unknown += [] if why is None else [why]
    roles = {
        **({} if prompt is None else {"prompt": _and([prompt, *parts])}),
        **({} if system is None else {"system": system}),
        **({} if found is None else found.roles),
    }
    unread = [column.name for column in rest if column.name not in parts]
    roles |= {"not read": ", ".join(unread)} if unread else {}
    return Proposal(mapping, roles, " and ".join(unknown) or None, bool(found and found.is_sft))


def _parts(columns: Sequence[Seen], prompt: str | None, rest: Sequence[Seen]) -> list[str]:
    """Columns with a second part of the prompt, as Alpaca's ``input``."""
    if prompt is None or not is_named(prompt, ("instruction", "question", "query", "prompt")):
        return []
    if any(column.name == prompt and column.is_messages for column in columns):
        return []
    return [one.name for one in rest if (one.is_text or one.is_number) and not one.is_messages and is_named(one.name, PARTS)]


def _inputs(prompt: str | None, parts: Sequence[str]) -> dict[str, str]:
    """``input_columns``: a placeholder for each column."""
    if prompt is None or not parts:
        return {"prompt": prompt or UNKNOWN}
    return {"_".join(tokens(name)) or name: name for name in (prompt, *parts)}


def _are_answers(family: Mapping[str, str], columns: Mapping[str, Seen]) -> bool:
    return all(has_word(name, ANSWERS) or len(name) == 1 for name in family.values()) or _length(family, columns) > _SENTENCE


def _length(family: Mapping[str, str], columns: Mapping[str, Seen]) -> float:
    return min(columns[name].length for name in family.values())


def _first(names: Collection[str], wanted: Sequence[str]) -> str | None:
    """The first of ``names`` that is called as one of ``wanted``, in the order of these."""
    return next((name for one in wanted for name in names if is_named(name, (one,))), None)


def _keys(items: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The keys of texts and of numbers in objects."""
    shared = [key for key in items[0] if all(key in one for one in items)]
    numbers = [key for key in shared if all(is_number(str(one[key])) for one in items)]
    return [key for key in shared if key not in numbers and all(isinstance(one[key], str) for one in items)], numbers


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
