"""Answers of a table that nobody has mapped: chosen and rejected, compared, rated, or one to each prompt; by names and cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..tables.table import Row, Table
from ..text.faults import is_missing
from ..text.messages import Spelling, Unreadable
from .known_names import (
    ANSWERS,
    CHOSEN,
    CONVERSATIONS,
    LABELS,
    PROMPTS,
    RANKS,
    RATINGS,
    REJECTED,
    WINNERS,
    families,
    has_word,
    is_named,
)
from .rated_rows import prompt_key
from .seen import Seen, ends_with_answer, is_number, is_whole
from .verdicts import Sides

UNKNOWN: Final = "COLUMN"  # in place of a column
NO_PAIR: Final = "which columns are the better and the worse answers"
KINDS: Final = 8  # values of a verdict at most
SENTENCE: Final = 30  # characters of an answer, from which on a column of another name may hold some
_SCALE: Final = 11  # values of a rating at most, where its column is not called one


@dataclass(frozen=True)
class Answers:
    """``mapping``: of the answers; ``columns``: those that it reads; ``role``: in words. ``missing``: what is not known of it."""

    mapping: Mapping[str, Any]
    columns: tuple[str, ...]
    roles: Mapping[str, str]
    missing: str | None = None
    is_sft: bool = False
    instead: str | None = None

    def begins(self, columns: Sequence[Seen]) -> bool:
        """Whether the answers are whole conversations, which begin with the prompt."""
        read = [column for column in columns if column.name in self.columns and not column.is_rating]
        talks = [column for column in read if column.is_messages]
        return len(talks) >= min(2, len(read)) and all(is_whole(column.first) for column in talks)


def answers_of(table: Table, columns: Sequence[Seen], prompt: str | None) -> Answers | None:
    """What the ``columns`` of ``table`` say of answers; ``prompt``: the column that is called one."""
    rows = table.rows
    return _named(columns) or _listed(columns) or _compared(columns, rows) or _rated(rows, columns, prompt) or _single(columns)


def _named(columns: Sequence[Seen]) -> Answers | None:
    """A column of chosen and one of rejected answers."""
    texts = [column.name for column in columns if column.is_text]
    chosen = first_named(texts, ("chosen",)) or first_named(texts, CHOSEN)
    rejected = first_named(texts, ("rejected",)) or first_named(texts, REJECTED)
    if chosen is None or rejected is None:
        return None
    mapping = {"chosen": chosen, "rejected": rejected}
    return Answers(mapping, (chosen, rejected), mapping)


def _listed(columns: Sequence[Seen]) -> Answers | None:
    """Lists of answers and of their ratings, or of objects with both."""
    lists = [column for column in columns if column.items]
    for column in lists:
        if all(isinstance(item, dict) for item in column.items):
            texts, numbers = _keys(column.items)
            text = first_named(texts, ANSWERS)
            rating = first_named(numbers, RATINGS) or first_named(numbers, RANKS)
            if text is not None and rating is not None:
                kind = "ratings" if first_named([rating], RATINGS) else "ranks"
                names = (f"{column.name}.{text}", f"{column.name}.{rating}")
                mapping = {"answers": names[0], kind: names[1]}
                return Answers(mapping, (column.name,), {"answers": names[0], kind: names[1]})
            winner = _winner([one for one in columns if one is not column], ("A", "B"))
            if text is not None and winner is not None and len(column.items) == 2:
                return _judged(f"{column.name}.{text}", (column.name,), winner, ("A", "B"))
    answers = next((one for one in lists if all(isinstance(item, str) and not is_number(item) for item in one.items)), None)
    numbers_of = [one for one in lists if one is not answers and all(is_number(str(item)) for item in one.items)]
    if answers is None or not numbers_of:
        return None
    ratings = next((one for one in numbers_of if not has_word(one.name, RANKS)), numbers_of[0])
    kind = "ranks" if has_word(ratings.name, RANKS) else "ratings"
    mapping = {"answers": answers.name, kind: ratings.name}
    return Answers(mapping, (answers.name, ratings.name), mapping)


def _compared(columns: Sequence[Seen], rows: Sequence[Row]) -> Answers | None:
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
        return Answers({"answers": answers, "winner": winner}, (*answers, winner), {"answers": listed(answers), "winner": winner})
    for kind, words in (("ratings", RATINGS), ("ranks", RANKS)):
        by = next((list(one.values()) for one in numbers if all(has_word(name, words) for name in one.values())), None)
        if by is not None:
            roles = {"answers": listed(answers), kind: listed(by)}
            return Answers({"answers": answers, kind: by}, (*answers, *by), roles)
    unread = _winner([one for one in columns if one.name not in answers], answers)
    if unread is not None and len(answers) == 2:
        return _judged(answers, tuple(answers), unread, answers)
    mapping = {"answers": answers, "winner" if len(answers) == 2 else "ratings": UNKNOWN}
    return Answers(mapping, tuple(answers), {"answers": listed(answers)}, "which column says which answer is better")


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
    return next((one.name for one in others if len(set(one.cells)) <= KINDS and one.cells and _all_named(one, sides)), None)


def _winner(columns: Sequence[Seen], answers: Sequence[str]) -> Seen | None:
    """The column that says which of two ``answers`` is better, as far as its cells or its name tell."""
    few = [one for one in columns if 1 < len(set(one.cells)) <= KINDS]
    found = next((one for one in few if _names_both(one, answers)), None)
    found = found or next((one for one in columns if is_named(one.name, WINNERS)), None)
    return found or next((one for one in few if has_word(one.name, WINNERS)), None)


def _judged(answers: str | Sequence[str], read: tuple[str, ...], winner: Seen, names: Sequence[str]) -> Answers:
    """Compared answers, with a place for what each value of the ``winner`` means, unless all are known."""
    sides, is_known = Sides(names), _names_both(winner, names)
    cells = dict.fromkeys(cell.strip() for cell in winner.cells)
    values = [cell for cell in cells if not is_known or sides.of(cell) is None][:KINDS]
    mapping: dict[str, Any] = {"answers": answers, "winner": winner.name}
    text = answers if isinstance(answers, str) else listed(list(answers))
    if not values:
        return Answers(mapping, (*read, winner.name), {"answers": text, "winner": winner.name})
    mapping["winner_values"] = dict.fromkeys(values, UNKNOWN)
    missing = f"which answer is meant by {', '.join(values)} in column {winner.name!r} ({', '.join(names)} or tie)"
    return Answers(mapping, (*read, winner.name), {"answers": text}, missing)


def _names_both(column: Seen, answers: Sequence[str]) -> bool:
    """Whether a column of a few values names each of two ``answers``, beside values that are not known."""
    values = set(column.cells)
    if len(answers) != 2 or len(values) > KINDS or column.is_number:
        return False
    sides = Sides(answers)
    return {0, 1} <= {sides.of(value) for value in values}


def _all_named(column: Seen, sides: Sides) -> bool:
    found = {sides.of(cell) for cell in set(column.cells)}
    return None not in found and any(side is not None and side >= 0 for side in found)


def _all_texts(name: str, answers: Sequence[str], rows: Sequence[Row]) -> bool:
    cells = [(row.cells[name].strip(), [row.cells[one].strip() for one in answers]) for row in rows]
    return all(cell in texts for cell, texts in cells if not is_missing(cell))


def _rated(rows: Sequence[Row], columns: Sequence[Seen], prompt: str | None) -> Answers | None:
    """One answer a row, and its rating; ``prompt``: None where the answers are conversations, which begin with it."""
    talks = [column for column in columns if column.is_messages and ends_with_answer(column.first)]
    texts = [column.name for column in columns if column.is_text and not column.is_rating and column.name not in PROMPTS]
    answer = (
        talks[0].name if talks else first_named(texts, ANSWERS) or next((one for one in texts if has_word(one, ANSWERS)), None)
    )
    prompt = None if prompt == answer else prompt
    by = [one.name for one in columns if one.is_rating and (has_word(one.name, (*RATINGS, *RANKS)) or is_named(one.name, LABELS))]
    by = by or [one.name for one in columns if one.is_rating and not one.is_number]
    numbers = [one.name for one in columns if one.is_number and len(set(one.cells)) <= min(_SCALE, len(one.cells) - 1)]
    if answer is None or not (by or numbers) or not (prompt or talks):
        return None
    if not _repeats(rows, () if prompt is None else (prompt,), answer):
        return _one_each(answer, by[0]) if by else None
    if len(by) != 1:
        mapping = {"answers": answer, "ratings": UNKNOWN}
        return Answers(mapping, (answer,), {"answers": answer}, f"which column rates the answers ({', '.join(by or numbers)})")
    kind = "ranks" if has_word(by[0], RANKS) else "ratings"
    return Answers({"answers": answer, kind: by[0]}, (answer, by[0]), {"answers": f"{answer}, several to a prompt", kind: by[0]})


def _repeats(rows: Sequence[Row], inputs: Sequence[str], answer: str) -> bool:
    """Whether two rows have the same prompt."""
    try:
        return len({prompt_key(row, inputs, row.cells[answer], Spelling()) for row in rows}) < len(rows)
    except Unreadable:
        return False


def _one_each(answer: str, by: str) -> Answers:
    why = f"{NO_PAIR}: each prompt has one answer, in {answer!r}, and DPO compares two"
    instead = (
        f"add rows with other answers to the same prompts; or keep the rows whose {by!r} is good, delete that column, and learn "
        "the answers alone: launcher init --data then writes method: sft"
    )
    return Answers({"chosen": UNKNOWN, "rejected": UNKNOWN}, (answer,), {}, why, instead=instead)


def _single(columns: Sequence[Seen]) -> Answers | None:
    """One answer to each prompt, where nothing rates it."""
    worse = first_named([column.name for column in columns if column.is_text], REJECTED)
    talk = next((column for column in columns if column.is_messages and ends_with_answer(column.first)), None)
    if talk is not None and worse is None:
        inputs = {} if talk.name in CONVERSATIONS else {"chosen": talk.name}
        return Answers(inputs, (talk.name,), {"conversations": talk.name}, is_sft=True)
    texts = [column.name for column in columns if column.is_text]
    answer = first_named(texts, CHOSEN) or first_named([name for name in texts if name not in PROMPTS], ANSWERS)
    if worse is not None:
        return Answers(
            {"chosen": UNKNOWN, "rejected": worse}, (worse,), {"rejected": worse}, "which column has the better answers"
        )
    if answer is not None and first_named([column.name for column in columns], WINNERS):
        why = f"{NO_PAIR}: there is one answer to each prompt, in {answer!r}, and pairs need two"
        return Answers({"chosen": UNKNOWN, "rejected": UNKNOWN}, (answer,), {}, why)
    if answer is None:
        return None
    return Answers({"chosen": answer}, (answer,), {"answer": answer}, is_sft=True)


def _are_answers(family: Mapping[str, str], columns: Mapping[str, Seen]) -> bool:
    return all(has_word(name, ANSWERS) or len(name) == 1 for name in family.values()) or _length(family, columns) > SENTENCE


def _length(family: Mapping[str, str], columns: Mapping[str, Seen]) -> float:
    return min(columns[name].length for name in family.values())


def first_named(names: Collection[str], wanted: Sequence[str]) -> str | None:
    """The first of ``names`` that is called as one of ``wanted``, in the order of these."""
    return next((name for one in wanted for name in names if is_named(name, (one,))), None)


def _keys(items: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The keys of texts and of numbers in objects."""
    shared = [key for key in items[0] if all(key in one for one in items)]
    numbers = [key for key in shared if all(is_number(str(one[key])) for one in items)]
    return [key for key in shared if key not in numbers and all(isinstance(one[key], str) for one in items)], numbers


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
