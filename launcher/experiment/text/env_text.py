"""Parses an environment file by python-dotenv's rules, and finds statements that set nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from ...errors import ExperimentError, Mistake

_OPENED: Final = re.compile(r"""(?:export[^\S\r\n]+)?(?P<name>[^=#\s]+)[^\S\r\n]*=[^\S\r\n]*(?=["'])""")
_QUOTED: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')[^\S\r\n]*""", re.DOTALL)
_BARE: Final = re.compile(r"(?:export[^\S\r\n]+)?[A-Z_][A-Z0-9_]*[^\S\r\n]*(?:#.*)?")


def parse_env(text: str, name: str, *, override: bool = False) -> dict[str, str]:
    """The assignments of ``text``, with ``${NAME}`` and ``${NAME:-default}`` substituted. ``name``: the file's name, for
    messages.

    ``override``: in ``${NAME}`` values of the file win over the environment. Raises ExperimentError with every statement that
    sets nothing; its text is not shown, because it may be a secret.
    """
    from dotenv.main import resolve_variables  # imported here: few commands read the file

    parts = list(_parts(text))
    mistakes = list(_mistakes(parts, name))
    if mistakes:
        raise ExperimentError(mistakes)
    found = resolve_variables([(part.name, part.value) for part in parts if part.name is not None], override=override)
    return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class _Part:
    """A statement or comment: its text without leading blank lines, and its line, counted from 1."""

    text: str
    line: int
    column: int
    name: str | None
    value: str | None
    is_wrong: bool

    @property
    def has_quote(self) -> bool:
        return self.is_wrong and _OPENED.match(self.text) is not None

    @property
    def is_stray(self) -> bool:
        """Whether it sets nothing. python-dotenv ignores a lone word; here only one that looks like a variable's name is
        accepted.
        """
        if self.is_wrong:
            return not self.has_quote
        return self.name is not None and self.value is None and _BARE.fullmatch(self.text.rstrip()) is None

    @property
    def last_line(self) -> int:
        return self.line + self.text.rstrip().count("\n")


def _parts(text: str) -> Iterator[_Part]:
    from dotenv.parser import parse_stream

    for binding in parse_stream(io.StringIO(text, newline=None)):
        written = binding.original.string
        bare = written.lstrip()
        *above, indent = written[: len(written) - len(bare)].split("\n")
        yield _Part(bare, binding.original.line + len(above), len(indent) + 1, binding.key, binding.value, binding.error)


def _mistakes(parts: Iterable[_Part], name: str) -> Iterator[Mistake]:
    """One mistake for each unclosed quote, and one for consecutive lines that set nothing."""
    above: _Part | None = None  # last statement that sets a variable
    for are_stray, group in groupby(parts, lambda part: part.is_stray):
        for those in _adjacent(group) if are_stray else ():
            is_below = above is not None and those[0].line == above.last_line + 1
            if above is None or not is_below:
                yield _no_assignment(name, those, None)
            elif not above.has_quote:  # otherwise the lines belong to its value
                yield _no_assignment(name, those, above.name)
        for part in () if are_stray else group:
            above = part
            if part.has_quote:
                yield _quote(name, part)
            if "\0" in part.text:
                yield Mistake(f"{name}:{part.line}:{part.column}", f"{part.name or 'the comment'} contains a NUL byte")


def _adjacent(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    those: list[_Part] = []
    for part in parts:
        if those and part.line != those[-1].last_line + 1:
            yield those
            those = []
        those.append(part)
    if those:
        yield those


def _quote(name: str, part: _Part) -> Mistake:
    """The mistake of a quoted value: at its quote, or at the text after its end."""
    opened = _OPENED.match(part.text)
    assert opened is not None, "it has a quote"
    closed = _QUOTED.match(part.text, opened.end())
    first, *more = part.text[: opened.end() if closed is None else closed.end()].split("\n")
    column = len(more[-1]) + 1 if more else part.column + len(first)
    key = opened["name"]
    what = f"the quote of {key} is not closed" if closed is None else f"text follows the closing quote of {key}"
    return Mistake(f"{name}:{part.line + len(more)}:{column}", what)


def _no_assignment(name: str, those: list[_Part], above: str | None) -> Mistake:
    first, last = those[0].line, those[-1].last_line
    what = "not an assignment" if first == last else f"lines {first} to {last} are not assignments"
    hint = None if above is None else f"if it belongs to {above}, put the whole value into quotes"
    return Mistake(f"{name}:{first}:{those[0].column}", what, "KEY=VALUE", hint=hint)
