"""Markdown that the generated pages are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """``rows``, the first of which names the columns."""
    cells = [" | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in (cells[0], " | ".join(["---"] * len(rows[0])), *cells[1:]))


def entries(rows: Iterable[tuple[str, str, str]]) -> str:
    """A list of (message, cause, fix), which a phone wraps where a table would be too wide. Empty parts are left out."""
    return "\n".join(_entry(*row) for row in rows)


def _entry(message: str, cause: str, fix: str) -> str:
    rest = ". ".join(part for part in (cause, f"**Fix:** {fix}" if fix else "") if part)
    return f"- {message}" + (f"\n\n  {rest}\n" if rest else "\n")


def ticked(text: str) -> str:
    """``text`` as a code span; nothing where it is empty."""
    if not text:
        return ""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def plain(text: str) -> str:
    """``text`` of a person or a program as Markdown that shows it: ``<id>`` is no element of HTML. Code spans stay."""
    return re.sub(r"`[^`]*`|[<*\[]", lambda found: found[0] if found[0][0] == "`" else f"\\{found[0]}", text)


def anchor(heading: str) -> str:
    """The name that GitHub and the site give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
