"""Template: the text of a user message with placeholders, and with optional parts, which disappear without a value. Pure.

``{instruction}{?\\n\\nInput: {input}}``: the second part is there only where ``input`` is not blank.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .faults import is_blank

# Literal text at even places; at odd ones a placeholder's name, or an optional part, which is such a list of its own.
Template = tuple[str | tuple[str, ...], ...]

_BRACES = re.compile(r"\{\{|\}\}|\{\?|\{(?P<name>[^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Wrong:
    """What cannot be read of a template; ``around``: the text there, in quotes."""

    what: str
    around: str
    hint: str | None = None


def parsed(text: str) -> tuple[Template, list[Wrong]]:
    """``text`` split at its placeholders and optional parts, with doubled braces made single; and what is wrong with it."""
    whole: list[str | tuple[str, ...]] = [""]
    part: list[str] | None = None  # the optional one that is open
    wrong, end, opened = list[Wrong](), 0, 0

    def add(literal: str) -> None:
        parts = whole if part is None else part
        parts[-1] = f"{parts[-1]}{literal}"

    for found in _BRACES.finditer(text):
        add(text[end : found.start()])
        end = found.end()
        if found["name"] is not None:
            (whole if part is None else part).extend((found["name"], ""))
        elif found[0] in ("{{", "}}"):
            add(found[0][0])
        elif found[0] == "{?" and part is None:
            part, opened = [""], found.start()
        elif found[0] == "{?":
            wrong.append(Wrong("an optional part inside another one", _around(text, found.start()), "write one after the other"))
        elif found[0] == "}" and part is not None:
            if len(part) == 1:
                hint = "name a column in it, such as {?Input: {input}}"
                wrong.append(Wrong("an optional part without a placeholder", _around(text, opened), hint))
            whole += [tuple(part), ""]
            part = None
        else:
            hint = f"write {found[0] * 2!r} for a literal {found[0]!r}"
            wrong.append(Wrong(f"unmatched {found[0]!r}", _around(text, found.start()), hint))
    if part is not None:
        hint = "end the optional part with '}', or write '{{?' for literal characters"
        wrong.append(Wrong("unmatched '{?'", _around(text, opened), hint))
    add(text[end:])
    return tuple(whole), wrong


def paragraphs(names: Sequence[str]) -> Template:
    """A paragraph for each placeholder; all but the first are optional."""
    rest = [part for name in names[1:] for part in (("\n\n", name, ""), "")]
    return ("", names[0], "", *rest)


def filled(template: Template, values: Mapping[str, str]) -> str:
    """The text, without optional parts whose values are all blank."""
    # Joined, not formatted: braces in a value are text.
    return "".join(_filled(part, values) if n % 2 else str(part) for n, part in enumerate(template))


def names_of(template: Template) -> list[str]:
    """All placeholders, once each, in their order."""
    return list(dict.fromkeys(name for part in template[1::2] for name in ([part] if isinstance(part, str) else part[1::2])))


def required(template: Template) -> list[str]:
    """The placeholders outside optional parts."""
    return list(dict.fromkeys(part for part in template[1::2] if isinstance(part, str)))


def is_alone(template: Template, *, with_blanks: bool = False) -> bool:
    """Whether it is one placeholder and no text; ``with_blanks``: blanks may be around it."""
    if len(template) != 3 or not isinstance(template[1], str):
        return False
    return not any(str(part).strip() if with_blanks else part for part in template[::2])


def written(template: Template) -> str:
    """``template`` as a person reads it; literal braces are not doubled."""
    return "".join(_written(part) if n % 2 else str(part) for n, part in enumerate(template))


def _filled(part: str | tuple[str, ...], values: Mapping[str, str]) -> str:
    if isinstance(part, str):
        return values[part]
    return "" if all(is_blank(values[name]) for name in part[1::2]) else filled(part, values)


def _written(part: str | tuple[str, ...]) -> str:
    return f"{{{part}}}" if isinstance(part, str) else f"{{?{written(part)}}}"


def _around(text: str, at: int) -> str:
    return json.dumps(text[max(0, at - 20) : at + 21], ensure_ascii=False)
