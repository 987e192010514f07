"""Halves of characters: JSON may write one of a surrogate pair alone (``\\ud83d``), which is no text in any encoding."""

from __future__ import annotations

import json
import re
from typing import Any, Final

HALF: Final = "half of a character (a surrogate without the other one)"
_ESCAPED: Final = re.compile(r"\\u[dD][89a-fA-F]")
_HALF: Final = re.compile("[\ud800-\udfff]")


def may_have_halves(text: str) -> bool:
    """Whether what ``text`` writes may have one: a pair is written alike."""
    return "\\u" in text and _ESCAPED.search(text) is not None


def half_in(value: Any) -> str | None:
    """The first lone surrogate in JSON text, as written there; None without one."""
    found = _HALF.search(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    return None if found is None else f"\\u{ord(found[0]):04x}"
