"""Verdicts: which of a row's answers is better, told by a column that names it, or by the answers' ratings or ranks. Pure.

Values as LMSYS's arena (model_a, tie (bothbad)), Label Studio (left, right), PKU-SafeRLHF (0 and 1, beside response_0 and
response_1) and annotators in spreadsheets write them. What names no answer is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from ...errors import Mistake
from ...experiment.sections.columns import VERDICTS, ColumnMapping
from ..text.faults import is_missing
from ..text.messages import Spelling, shown

TIE: Final = "tie"  # in winner_values: neither answer is better
NEITHER, UNSAID = -1, -2  # in place of an answer's number
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_WORDS: Final = {"left": 0, "right": 1, "first": 0, "second": 1, "third": 2, "fourth": 3}
_WHAT: Final = "assistant|answer|candidate|chatbot|completion|conversation|model|option|output|reply|response|text"
_NAMED: Final = re.compile(rf"(?:the\s+)?(?:(?:{_WHAT})[\s_-]*)?(?P<side>\w+)(?:\s+(?:{_WHAT}))?", re.IGNORECASE)
_SAID: Final = re.compile(r"\s+(?:is\s+)?(?:(?:much|slightly|far)\s+)?(?:better|preferred|wins?|won)\W*\Z", re.IGNORECASE)
_SAME: Final = r"(?:they\s+are\s+)?(?:about\s+|roughly\s+)?(?:the\s+)?(?:equal(?:ly)?\b.*|same|similar)"
_BOTH: Final = rf"both(?:[\s_-]*(?:{_WHAT})s?)?(?:[\s_-]*(?:are\s+)?(?:equally\s+)?(?:good|bad|equal|fine|poor|correct|wrong))?"
_TIES: Final = re.compile(
    rf"tie[ds]?\b.*|draw|{_SAME}|{_BOTH}|neither\b.*|no[\s_-]*(?:preference|difference)|undecided|unsure|not\s+sure|skip(?:ped)?"
    r"|gleich(?:wertig|\s*gut)?|unentschieden|beide(?:\s+gleich)?(?:\s+(?:gut|schlecht))?|égal(?:ité|es|ement\s.*)?|empate|pareggio|pari",
    re.IGNORECASE,
)
_RATING: Final = "a number, true or false, a word such as good, bad, yes, no, up or down, or an empty cell"
_SIGNS: Final = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff:]")  # colours of an emoji, and the colons of its name


def _listed(words: str) -> frozenset[str]:
    return frozenset(word.strip() for word in words.split(","))


_GOOD: Final = _listed(
    """good, yes, y, up, thumbs up, thumb up, thumbsup, +1, \U0001f44d, \u2705, \u2714, \u2713, like, liked, upvote, desirable,
    accept, accepted, chosen, preferred, correct, pass, passed, positive, helpful"""
)
_BAD: Final = _listed(
    """bad, no, n, down, thumbs down, thumb down, thumbsdown, \U0001f44e, \u274c, \u2718, \u2717, dislike, disliked, downvote,
    undesirable, reject, rejected, incorrect, wrong, fail, failed, negative, unhelpful, not helpful"""
)


@dataclass(eq=False)
class Unusable(Exception):
    """Why the cell of a row in ``column`` cannot be used."""

    column: str
    what: str
    expected: str | None = None
    found: str | None = None

    def mistake(self, place: str) -> Mistake:
        return Mistake(place, f"{self.what} in column {self.column!r}", self.expected, self.found)


@dataclass(frozen=True)
class Verdict:
    """``answers``: columns of them, or one column of lists; ``kind``: the key of ``by``, the columns that compare them.

    ``values``: what a winner may be called -> the column of an answer, or tie. ``inputs``: the columns that make a prompt;
    ``spelling``: of messages in them and in the answers.
    """

    answers: tuple[str, ...]
    kind: str
    by: tuple[str, ...]
    values: Mapping[str, str]
    inputs: tuple[str, ...] = ()
    spelling: Spelling = field(default_factory=Spelling)

    @classmethod
    def of(cls, columns: ColumnMapping) -> Verdict | None:
        """What ``columns`` says of compared answers, None if it names the column of the better ones."""
        if columns.answers is None:
            return None
        kind = next(kind for kind in VERDICTS if getattr(columns, kind) is not None)
        by = getattr(columns, kind)
        inputs = (*(columns.input_columns or {}).values(), *filter(None, (columns.system,)))
        by = (by,) if isinstance(by, str) else by
        return cls(columns.answers, kind, by, columns.winner_values or {}, inputs, Spelling.of(columns))

    @property
    def better(self) -> str:
        """The name of the column with the better answer, which no file has."""
        return f"{'better' if len(self.answers) == 2 else 'best'} of {', '.join(self.answers)}"

    @property
    def worse(self) -> str:
        return f"{'worse' if len(self.answers) == 2 else 'worst'} of {', '.join(self.answers)}"

    @property
    def names(self) -> tuple[str, ...]:
        """How a person names each answer; () where their number differs."""
        return self.answers if len(self.answers) > 1 else ("A", "B") if self.kind == "winner" else ()

    @property
    def text(self) -> str:
        """What compares the answers, in words."""
        return f"column {self.by[0]!r}" if self.kind == "winner" else f"{self.kind} {', '.join(self.by)}"

    def number(self, column: str, cell: str) -> float | None:
        """The rating or rank in a ``cell`` of ``column``, None without one; raises Unusable."""
        try:
            return rating(cell) if self.kind == "ratings" else number(cell)
        except ValueError:
            expected = "a number, or an empty cell" if self.kind == "ranks" else _RATING
            raise Unusable(column, "not a number", expected, shown(cell)) from None

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that are read."""
        return tuple(dict.fromkeys((*self.answers, *self.by)))


class Sides:
    """The answers of a row by what a verdict may call them. ``names``: their columns; ``values``: another name -> one, or tie."""

    def __init__(self, names: Sequence[str], values: Mapping[str, str] | None = None):
        self._names = {name.strip().casefold(): place for place, name in enumerate(names)} if len(set(names)) > 1 else {}
        self._own = _own_parts(list(self._names))
        self._count = len(names)
        self._values = {_spelt(value): meant for value, meant in (values or {}).items()}

    def of(self, cell: str) -> int | None:
        """The number of the answer that ``cell`` names, ``NEITHER`` of a tie, ``UNSAID`` without a verdict; None: not known."""
        value = _spelt(cell)
        if value in self._values:
            meant = self._values[value]
            return NEITHER if meant.strip().casefold() == TIE else self._place(_spelt(meant))
        place = self._place(value)
        if place is not None:
            return place
        if is_missing(cell):
            return UNSAID
        return NEITHER if _TIES.fullmatch(value) else None

    def _place(self, value: str) -> int | None:
        """By a column's name, by the part in which the names differ, then by letter, number or position."""
        for name in dict.fromkeys((value, _SAID.sub("", value))):
            if name in self._names:
                return self._names[name]
            if name in self._own:
                return self._own[name]
            found = _NAMED.fullmatch(name)
            if found is None:
                continue
            side = found["side"]
            if side in self._own:
                return self._own[side]
            # Columns that count for themselves, such as response_0 and response_1, leave no other way to count.
            kind = _kind(side)
            place = None if kind and any(_kind(part) == kind for part in self._own) else _position(side)
            if place is not None and 0 <= place < self._count:
                return place
        return None


def sides_in(cells: Iterable[str], names: Sequence[str]) -> list[str]:
    """Those of the ``cells`` that name one of the two answers ``names``, where both are named; 0 and 1 may be both."""
    sides, values = Sides(names), sorted(set(cells))
    found = {value: side for value in values if (side := sides.of(value)) is not None and side >= 0}
    if len(set(found.values())) < 2 and {"0", "1"} <= set(map(_spelt, values)):
        return ["0", "1"]
    return list(found) if len(set(found.values())) > 1 else []


def _spelt(cell: str) -> str:
    """``cell`` without what spreadsheets and annotators put around a value: 1.0 is 1."""
    value = cell.strip().strip("[]\"'").strip().casefold()
    return value.removesuffix(".0") if re.fullmatch(r"-?\d+\.0", value) else value


def _kind(side: str) -> str | None:
    return "number" if side.isdigit() else "letter" if len(side) == 1 else None


def _position(side: str) -> int | None:
    if side in _WORDS:
        return _WORDS[side]
    if len(side) == 1 and side in _LETTERS:
        return _LETTERS.index(side)
    return int(side) - 1 if side.isascii() and side.isdigit() and side != "0" else None


def _own_parts(names: Sequence[str]) -> dict[str, int]:
    """The part of each name in which they differ -> its number: a, b of response_a, response_b."""
    if len(names) < 2:
        return {}
    before = _shared(names)
    after = _shared([name[before:][::-1] for name in names])
    parts = [name[before : len(name) - after].strip(" _-") for name in names]
    return {part: place for place, part in enumerate(parts)} if all(parts) and len(set(parts)) == len(parts) else {}


def _shared(names: Sequence[str]) -> int:
    """With how many characters all ``names`` begin."""
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))


def number(cell: str) -> float | None:
    """A rating or rank, None for a cell without one; raises ValueError for what is no number. Decimal commas and 4/5 are read."""
    value = cell.strip()
    if is_missing(value):
        return None
    if value.lower() in ("true", "false"):
        return float(value.lower() == "true")
    found = float(re.sub(r"\s*/\s*\d+\Z", "", value).replace(",", "."))
    if found in (float("inf"), -float("inf")) or found != found:
        raise ValueError(value)
    return found


def rating(cell: str) -> float | None:
    """A rating: a number, or 1 and 0 for a word or sign such as good and bad; raises ValueError for another text."""
    word = _SIGNS.sub("", cell).strip().casefold().replace("_", " ").replace("-", " ")
    return 1.0 if word in _GOOD else 0.0 if word in _BAD else number(cell)
