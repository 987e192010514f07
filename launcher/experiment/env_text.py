"""The text of an environment file -> values, and every line that is no assignment. No mistake shows a value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ..errors import ExperimentError, Mistake

_ASSIGNMENT: Final = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*(?P<value>.*)")
_COMMENT: Final = re.compile(r"(^|\s+)#.*$")


def parse_env(text: str, name: str) -> dict[str, str]:
    """The assignments of ``text``; ``name``: of the file, in mistakes.

    ``KEY=VALUE`` and ``export KEY=VALUE``, quoted or not; a quoted value may have several lines, and ``\\n`` in it stays two
    characters. Raises ExperimentError with every other line; its text is not shown, as it may be a secret.
    """
    values: dict[str, str] = {}
    mistakes: dict[int, Mistake] = {}
    stray: list[list[int]] = []  # numbers of lines that follow each other
    names: dict[int, str] = {}
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if not _COMMENT.sub("", line).strip():
            continue
        match = _ASSIGNMENT.fullmatch(line)
        value = _value(match["value"], lines) if match else None
        if match is None and stray and stray[-1][-1] == number - 1:
            stray[-1].append(number)
        elif match is None:
            stray.append([number])
        elif value is None:
            what = f"the quote of {match['name']} is not closed, or text follows it"
            mistakes[number] = Mistake(f"{name}:{number}", what)
        else:
            values[match["name"]] = value
            names[number] = match["name"]
    mistakes |= {numbers[0]: _no_assignment(name, numbers, names.get(numbers[0] - 1)) for numbers in stray}
    if mistakes:
        raise ExperimentError(mistakes[number] for number in sorted(mistakes))
    return values


def _no_assignment(name: str, numbers: Sequence[int], above: str | None) -> Mistake:
    """One mistake for lines that follow each other; ``above``: the name that the line above them sets."""
    first, last = numbers[0], numbers[-1]
    what = "not an assignment" if first == last else f"lines {first} to {last} are not assignments"
    hint = None if above is None else f"if it belongs to {above}, put the whole value into quotes"
    return Mistake(f"{name}:{first}", what, "KEY=VALUE", hint=hint)


def _value(text: str, lines: Iterator[tuple[int, str]]) -> str | None:
    """The value that begins with ``text``, with further lines while its quote is open; None where it is never closed."""
    quote = text[:1]
    if quote not in ("'", '"'):
        return _COMMENT.sub("", text).strip()
    # A backslash keeps a double quote inside its value; all other backslashes are text.
    closed = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(#.*)?' if quote == '"' else r"'([^']*)'\s*(#.*)?", re.DOTALL)
    while not (match := closed.fullmatch(text)):
        if re.match(closed.pattern, text, re.DOTALL):
            return None  # closed, but followed by something
        more = next(lines, None)
        if more is None:
            return None
        text += "\n" + more[1]
    return match[1].replace('\\"', '"') if quote == '"' else match[1]
