"""Faults in the text of one cell, whatever its column."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final

from .messages import Spelling, Unreadable, loaded

# What spreadsheets show for a formula without a value, in English, German, French, Spanish, Italian, Portuguese, Dutch, Polish,
# Swedish, Danish, Turkish and Russian.
_SHOWN: Final = """
    #NULL! #DIV/0! #VALUE! #REF! #NAME? #NUM! #N/A #ERROR! #SPILL! #CALC! #FIELD! #BLOCKED! #CONNECT! #UNKNOWN! #BUSY!
    #GETTING_DATA Loading...
    #BEZUG! #WERT! #ZAHL! #NV #LEER! #ÜBERLAUF! #KALK! #VALEUR! #NOM? #NOMBRE! #NUL! #PROPAGATION!
    #¡REF! #¡VALOR! #¿NOMBRE? #¡NUM! #¡DIV/0! #¡NULO! #RIF! #VALORE! #NOME? #VALOR! #NÚM! #NULO!
    #VERW! #WAARDE! #NAAM? #GETAL! #LEEG! #N/B #DEEL/0! #ADR! #ARG! #NAZWA? #LICZBA! #ZERO! #N/D! #N/D
    #REFERENS! #VÄRDEFEL! #NAMN? #OGILTIGT! #SAKNAS! #VÆRDI! #REFERENCE! #NAVN? #I/T #BAŞV! #DEĞER! #AD? #SAYI! #SAYI/0! #YOK
    #ССЫЛКА! #ЗНАЧ! #ИМЯ? #ЧИСЛО! #ПУСТО! #Н/Д #ДЕЛ/0!
"""
FORMULA_ERRORS: Final = frozenset(_SHOWN.split())
_NOTHING: Final = "nan none null <na> n/a na nat undefined nil -nan n.a. k.a. (null) [null] \\n pd.na np.nan [] {} - -- tbd"
_MISSING: Final = frozenset((*_NOTHING.split(), "#n/a n/a"))
_LONGEST_WORD: Final = max(map(len, FORMULA_ERRORS))
# Without width, or blank: also marks of direction, variation selectors, and the blanks of Braille and Hangul.
_INVISIBLE: Final = dict.fromkeys(
    (*map(ord, "\u180e\ufeff\u00ad\u034f\u061c\u115f\u1160\u2800\u3164\uffa0"), *range(0x200B, 0x2010))
    + (*range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFE00, 0xFE10))
)
_ESCAPES: Final = re.compile(r"_x[0-9A-Fa-f]{4}_")
_ENTITY: Final = re.compile(r"&(?:#\d{2,6}|#[xX][0-9A-Fa-f]{2,5}|[A-Za-z][A-Za-z0-9]{1,30});")
_MESSAGE: Final = ({"role", "content"}, {"from", "value"})
_SPELLING: Final = Spelling()
# Not LaTeX's words that begin so, and not a folder of a Windows path.
_NEWLINE: Final = re.compile(
    r"\\n(?!(?:abla|e|eq|eg|earrow|exists|ew(?:command|line|page|environment)?|u|i|ot|otin|oindent|ode|ormalsize|onumber|leq|geq|mid"
    r"|sim|atural|um|parallel|subseteq|supseteq|prec|succ)\b)"
)
_PATH: Final = re.compile(r"(?:\b[A-Za-z]:|\\\\[\w.$-]+)\\[^\s\"'<>|]*")
# Of ChatML, Llama, Gemma, Phi, Command, DeepSeek (which writes other bars and blanks) and gpt-oss; then Alpaca's, and turns of
# Anthropic's hh-rlhf.
_MARKS: Final = re.compile(
    r"<[|｜][A-Za-z][A-Za-z0-9_▁]{1,40}[|｜]>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos)>|</s>\s*\Z"
)
_STRUCK: Final = re.compile(r"\s*<s>(?!.*</s>\s*\S)", re.DOTALL)  # Llama's first token, and no text that is struck out
_ALPACA: Final = ("### Instruction:", "### Response:", "### Human:", "### Assistant:")
_TURNS: Final = ("\n\nHuman: ", "\n\nAssistant: ")
# The first byte of a UTF-8 sequence and one that follows it, both read as Windows-1252: only such text is worth a closer look.
_MISREAD: Final = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e"
    "\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]"
)


def faults(cell: str) -> Iterator[tuple[str, str | None]]:
    """(name of the rule, what was found) of a cell that is not empty; the rules are those of experiment.data_rules."""
    if len(cell) <= _LONGEST_WORD + 2:
        word = cell.strip()
        if word in FORMULA_ERRORS or (len(word) > 3 and not word.strip("#")):  # ####: the column was too narrow
            yield "formula_error", word
        elif word.lower() in _MISSING:
            yield "missing_word", word
    for rule, find in _ANYWHERE if cell.isascii() else _OF_UNICODE:
        found = find(cell)
        if found is not None:
            yield rule, found
    if cell[0].isspace() or cell[-1].isspace():
        yield "outer_white_space", None


def is_blank(cell: str) -> bool:
    """Whether ``cell`` has no visible character."""
    seen = cell.strip()
    if not seen or seen.isascii() or (seen[0].isalnum() and ord(seen[0]) not in _INVISIBLE):
        return not seen
    return not visible(seen).strip()


def is_missing(cell: str) -> bool:
    """Whether ``cell`` has no value: it is blank, or one of the words that programs write in its place."""
    return is_blank(cell) or cell.strip().lower() in _MISSING


def visible(cell: str) -> str:
    """``cell`` without characters that have no width."""
    return cell if cell.isascii() else cell.translate(_INVISIBLE)


def normal(cell: str) -> str:
    """``cell`` in Unicode's normal form NFC: texts that look the same are equal."""
    return cell if cell.isascii() else unicodedata.normalize("NFC", cell)


def _carriage_return(cell: str) -> str | None:
    return "\\r" if "\r" in cell else None


def _first(pattern: re.Pattern[str], within: str) -> Callable[[str], str | None]:
    """Finds ``pattern``, which no text without ``within`` has."""

    def find(cell: str) -> str | None:
        found = pattern.search(cell) if within in cell else None
        return None if found is None else found[0].strip()

    return find


def _marks(cell: str) -> str | None:
    if "<" in cell or "INST]" in cell:
        found = _MARKS.search(cell) or _STRUCK.match(cell)
        if found is not None:
            return found[0].strip()
    lines = (*(_ALPACA if "### " in cell else ()), *(_TURNS if "\n\n" in cell else ()))
    return next((line.strip() for line in lines if line in cell), None)


def _entity(cell: str) -> str | None:
    """The first entity that HTML knows: ``&copy;``, and not the ``&T;`` of ``AT&T;``."""
    if "&" not in cell:
        return None
    from html.entities import html5

    found = (one[0] for one in _ENTITY.finditer(cell) if one[0][1] == "#" or one[0][1:] in html5)
    return next(found, None)


def _newline(cell: str) -> str | None:
    return "\\n" if "\\n" in cell and "\n" not in cell and _NEWLINE.search(_PATH.sub("", cell)) else None


def _messages(cell: str) -> str | None:
    """Chat messages that ``cell`` writes as JSON or as a Python list, or that were meant as such."""
    if cell.lstrip()[:1] not in ("[", "{") or not any(all(key in cell for key in keys) for keys in _MESSAGE):
        return None
    if not _SPELLING.is_messages(cell):
        return None
    try:
        found = loaded(cell)
    except Unreadable:
        return "a damaged list"
    count = len(found) if isinstance(found, list) else 1
    return f"{count} {'message' if count == 1 else 'messages'}"


def _mojibake(cell: str) -> str | None:
    found = _MISREAD.search(cell)
    if found is None:
        return None
    from ftfy.badness import is_bad  # slow to import; hardly a table needs it

    around = cell[max(0, found.start() - 10) : found.end() + 10]
    return around if is_bad(cell) else None


def _characters(pattern: str) -> Callable[[str], str | None]:
    """Finds one of the characters of ``pattern``."""
    wanted = re.compile(pattern)

    def find(cell: str) -> str | None:
        found = wanted.search(cell)
        return None if found is None else f"U+{ord(found[0]):04X} at character {found.start() + 1} of the cell"

    return find


_ANYWHERE: Final = (
    ("control_character", _characters(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    ("carriage_return", _carriage_return),
    ("messages_as_text", _messages),
    ("template_marks", _marks),
    ("excel_escapes", _first(_ESCAPES, "_x")),
    ("html_entities", _entity),
    ("literal_newline", _newline),
)
_OF_UNICODE: Final = (
    *_ANYWHERE,
    ("bom_inside", _characters("\ufeff")),
    ("replacement_character", _characters("\ufffd")),
    ("zero_width", _characters("[\u200b\u2060\u180e]")),
    ("mojibake", _mojibake),
)
